package shop;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.fasterxml.jackson.databind.JsonNode;
import dev.courier.EventPublisher;
import dev.courier.OutboxDialect;
import dev.courier.spring.CourierEndpoint;
import dev.courier.spring.FakeHost;
import dev.courier.testing.CourierHost;
import dev.courier.testing.Kafka;
import dev.courier.testing.Postgres;
import java.time.Duration;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.support.JdbcTransactionManager;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;
import org.springframework.transaction.support.TransactionTemplate;

/**
 * Transactions that roll back send nothing, and those that commit send each message exactly once, to a binding that
 * drops doubles: on real PostgreSQL and Kafka, by the real host. 10,000 each with {@code COURIER_TEST_SCALE=full}.
 */
@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.RANDOM_PORT, properties = {
    "spring.application.name=shop",
    "spring.jpa.hibernate.ddl-auto=create",
    "courier.outbox.initialize-schema=always",
    "management.endpoints.web.exposure.include=courier",
    "courier.handlers.signing-key=" + FakeHost.KEY})
class ExactlyOnceTest {
    private static final int COUNT = "full".equals(System.getenv("COURIER_TEST_SCALE")) ? 10_000 : 300;
    private static final int THREADS = 8;
    private static final Duration LIMIT = Duration.ofSeconds(60).plusMillis(20L * COUNT);
    private static Postgres.Database database;
    private static CourierHost host;

    @DynamicPropertySource
    static void servers(DynamicPropertyRegistry registry) {
        database = Postgres.shared().createDatabase();
        registry.add("spring.datasource.url", database::jdbcUrl);
    }

    @BeforeAll
    static void start(@Autowired CourierEndpoint shop) {
        Kafka.shared().createTopics(3, "order", "price");
        String toml = ((String) shop.courier().get("toml"))
                .replaceAll("url = \"postgres:[^\"]*\"", "url = \"" + database.courierUrl() + "\"")
                .replace("plugin = \"http-push\"", "plugin = \"http-push\"\ndedupe = \"10m\"");
        host = CourierHost.start("host-1", Postgres.shared().createDatabase().courierUrl(), toml,
                Map.of("COURIER_SIGNING_KEY", FakeHost.KEY));
    }

    @AfterAll
    static void stop() {
        host.close();
    }

    @Autowired
    private OrderRepository orders;
    @Autowired
    private OrderMessageHandler handler;
    @Autowired
    private JdbcTemplate jdbc;
    @Autowired
    private DataSource dataSource;
    @Autowired
    private TransactionTemplate jpa;

    /** What a transaction does with an order beside publishing. */
    private interface Change {
        void store(String id);
    }

    @Test
    void withJpa() throws Exception {
        eachExactlyOnce("jpa", jpa, id -> {
            Order order = new Order();
            order.id = id;
            orders.save(order);
        });
    }

    @Test
    void withPlainJdbc() throws Exception {
        TransactionTemplate plain = new TransactionTemplate(new JdbcTransactionManager(dataSource));
        eachExactlyOnce("jdbc", plain, id -> jdbc.update("INSERT INTO shop_order (id) VALUES (?)", id));
    }

    @Test
    void theTableIsTheOneThatTheHostPrints() {
        assertThat(OutboxDialect.POSTGRESQL.schema())
                .isEqualTo(CourierHost.run("outbox", "schema", "--for", "postgres"));
        assertThat(OutboxDialect.SQLITE.schema()).isEqualTo(CourierHost.run("outbox", "schema", "--for", "sqlite"));
    }

    private void eachExactlyOnce(String way, TransactionTemplate transaction, Change change) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        List<Future<?>> running = IntStream.range(0, COUNT).<Future<?>>mapToObj(number -> threads.submit(() -> {
            run(transaction, change, way + "-committed-" + number, false);
            run(transaction, change, way + "-rolled-back-" + number, true);
        })).toList();
        for (Future<?> one : running) {
            one.get();
        }
        threads.shutdown();
        // A message that comes after all others of the same topic and outbox, so that those have been decided.
        run(transaction, change, way + "-last", false);
        await("the last message").atMost(LIMIT).until(() -> handled(way + "-last").size() == 1);
        await("all messages").atMost(LIMIT).until(() -> handled(way + "-committed-").size() >= COUNT
                && nothingWaits());
        assertThat(handled(way + "-committed-")).doesNotHaveDuplicates().hasSize(COUNT);
        assertThat(handled(way + "-rolled-back-")).isEmpty();
        assertThat(jdbc.queryForObject("SELECT count(*) FROM shop_order WHERE id LIKE ?", Integer.class, way + "-%"))
                .isEqualTo(COUNT + 1);
    }

    private void run(TransactionTemplate transaction, Change change, String id, boolean rollBack) {
        transaction.executeWithoutResult(status -> {
            change.store(id);
            EventPublisher.publish(new OrderCreated(id, "tea", new Date()));
            if (rollBack) {
                status.setRollbackOnly();
            }
        });
    }

    private List<String> handled(String prefix) {
        return handler.handled.stream().map(event -> event.orderId).filter(id -> id.startsWith(prefix)).toList();
    }

    /** Whether the outbox is empty and the group has nothing before it. */
    private boolean nothingWaits() {
        if (jdbc.queryForObject("SELECT count(*) FROM courier_outbox", Integer.class) > 0) {
            return false;
        }
        for (JsonNode group : host.get("/v1/groups").get("items")) {
            for (JsonNode partition : group.get("partitions")) {
                if (partition.path("lag").asLong(1) > 0) {
                    return false;
                }
            }
        }
        return true;
    }
}
