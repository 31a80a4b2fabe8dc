package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.OutboxDialect;
import dev.courier.OutboxException;
import dev.courier.PrimaryKey;
import dev.courier.Receipt;
import dev.courier.Topic;
import dev.courier.testing.Postgres;
import java.sql.Connection;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import liquibase.Contexts;
import liquibase.Liquibase;
import liquibase.database.jvm.JdbcConnection;
import liquibase.resource.ClassLoaderResourceAccessor;
import org.flywaydb.core.Flyway;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.context.annotation.Configuration;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DriverManagerDataSource;
import org.springframework.jdbc.support.JdbcTransactionManager;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionTemplate;

/** Messages within transactions of plain JDBC on a real PostgreSQL. */
@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.NONE, properties = {
    "spring.application.name=shop",
    "spring.autoconfigure.exclude="
            + "org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration,"
            + "org.springframework.boot.autoconfigure.data.jpa.JpaRepositoriesAutoConfiguration",
    "courier.outbox.initialize-schema=always"})
class OutboxTransactionTest {
    private static final FakeHost HOST = new FakeHost();

    @Topic(name = "order")
    static class OrderCreated extends Event {
        @PrimaryKey
        String orderId;

        OrderCreated(String orderId) {
            this.orderId = orderId;
        }
    }

    @Configuration
    @EnableAutoConfiguration
    @EnableMessage
    static class Application {
    }

    @DynamicPropertySource
    static void servers(DynamicPropertyRegistry registry) {
        HOST.register(registry);
    }

    @AfterAll
    static void stop() {
        HOST.close();
    }

    @Autowired
    private JdbcTemplate jdbc;
    @Autowired
    private TransactionTemplate transaction;
    @Autowired
    private DataSource dataSource;

    @BeforeEach
    void forget() {
        HOST.forget();
        jdbc.execute("TRUNCATE courier_outbox");
    }

    private static Receipt publish(String id) {
        return EventPublisher.publish(new OrderCreated(id));
    }

    private String keys() {
        return jdbc.queryForObject("SELECT coalesce(string_agg(key, ' ' ORDER BY seq), '') FROM courier_outbox",
                String.class);
    }

    private String sent() {
        return String.join(" ", HOST.published().stream().map(message -> message.get("key").asText()).toList());
    }

    private TransactionTemplate with(int propagation) {
        TransactionTemplate template = new TransactionTemplate(transaction.getTransactionManager());
        template.setPropagationBehavior(propagation);
        return template;
    }

    @Test
    void aRowHasWhatTheMessageHas() {
        Receipt receipt = transaction.execute(status -> publish("o-1"));
        assertThat(receipt.state()).isEqualTo(Receipt.State.IN_TRANSACTION);
        assertThat(jdbc.queryForMap("SELECT id, source, topic, type, key, kind, body, headers::text, deliver_at "
                + "FROM courier_outbox").values()).containsExactly(receipt.id(), "shop", "order", "OrderCreated",
                "o-1", "event", "{\"orderId\":\"o-1\"}", "{}", null);
    }

    @Test
    void innerTransactionsAndSavepointsKeepTheirOwnMessages() {
        transaction.executeWithoutResult(outer -> {
            publish("outer");
            with(TransactionDefinition.PROPAGATION_REQUIRES_NEW).executeWithoutResult(inner -> publish("new"));
            with(TransactionDefinition.PROPAGATION_REQUIRES_NEW).executeWithoutResult(inner -> {
                publish("new-rolled-back");
                inner.setRollbackOnly();
            });
            with(TransactionDefinition.PROPAGATION_NESTED).executeWithoutResult(inner -> {
                publish("savepoint-rolled-back");
                inner.setRollbackOnly();
            });
            with(TransactionDefinition.PROPAGATION_NOT_SUPPORTED).executeWithoutResult(none -> publish("http"));
            outer.setRollbackOnly();
        });
        assertThat(keys()).isEqualTo("new");
        assertThat(sent()).isEqualTo("http");
    }

    @Test
    void whatIsPublishedAfterTheCommitGoesToTheHost() {
        transaction.executeWithoutResult(status ->
                TransactionSynchronizationManager.registerSynchronization(new TransactionSynchronization() {
                    @Override
                    public void beforeCommit(boolean readOnly) {
                        publish("before");
                    }

                    @Override
                    public void afterCommit() {
                        publish("after");
                        with(TransactionDefinition.PROPAGATION_REQUIRES_NEW)
                                .executeWithoutResult(inner -> publish("new"));
                    }

                    @Override
                    public void afterCompletion(int completion) {
                        publish("completed");
                    }
                }));
        assertThat(keys()).isEqualTo("before new");
        assertThat(sent()).isEqualTo("after completed");
    }

    @Test
    void aDelayIsAddedToTheClockOfTheDatabase() {
        String clock = "SELECT extract(epoch FROM clock_timestamp())";
        double before = jdbc.queryForObject(clock, Double.class);
        transaction.executeWithoutResult(status -> {
            // The transaction's own time stands still; the delay counts from the insert.
            jdbc.execute("SELECT pg_sleep(0.2)");
            EventPublisher.publish(new OrderCreated("o-1"), 2, TimeUnit.SECONDS);
        });
        double after = jdbc.queryForObject(clock, Double.class);
        double due = jdbc.queryForObject("SELECT extract(epoch FROM deliver_at) FROM courier_outbox", Double.class);
        assertThat(due).isBetween(before + 2.2, after + 2);
        jdbc.execute("TRUNCATE courier_outbox");
        transaction.executeWithoutResult(status ->
                EventPublisher.publishAt(new OrderCreated("o-2"), Instant.ofEpochSecond(1_800_000_000, 1_001)));
        assertThat(jdbc.queryForObject("SELECT extract(epoch FROM deliver_at)::text FROM courier_outbox",
                String.class)).isEqualTo("1800000000.000002");
    }

    @Test
    void aTransactionThatCannotTakeTheRowIsSaid() {
        TransactionTemplate readOnly = with(TransactionDefinition.PROPAGATION_REQUIRED);
        readOnly.setReadOnly(true);
        assertThatThrownBy(() -> readOnly.executeWithoutResult(status -> publish("o-1")))
                .isInstanceOf(OutboxException.class).hasMessageContaining("read-only transaction");

        String url = jdbc.execute((Connection connection) -> connection.getMetaData().getURL());
        DriverManagerDataSource other = new DriverManagerDataSource(url);
        TransactionTemplate foreign = new TransactionTemplate(new JdbcTransactionManager(other));
        assertThatThrownBy(() -> foreign.executeWithoutResult(status -> publish("o-1")))
                .isInstanceOf(OutboxException.class).hasMessageContaining("courier.outbox.data-source");
        // Also where the outbox's DataSource was used in the foreign transaction, without one of its own.
        assertThatThrownBy(() -> foreign.executeWithoutResult(status -> {
            jdbc.queryForObject("SELECT 1", Integer.class);
            publish("o-1");
        })).isInstanceOf(OutboxException.class).hasMessageContaining("courier.outbox.data-source");
        assertThat(keys()).isEmpty();
        assertThat(HOST.published()).isEmpty();
    }

    @Test
    void aMissingTableIsSaidWithWhatCreatesIt() {
        OutboxWriter elsewhere = new OutboxWriter(dataSource, "courier_elsewhere");
        assertThatThrownBy(() -> transaction.executeWithoutResult(status -> elsewhere.write(
                EventPublisher.publisher().draft(new OrderCreated("o-1")).after(Duration.ofSeconds(1)), "shop")))
                .isInstanceOf(OutboxException.class).hasMessageContaining("courier_elsewhere")
                .hasMessageContaining("courier.outbox.initialize-schema=always");
        elsewhere.initializeSchema();
        transaction.executeWithoutResult(status ->
                elsewhere.write(EventPublisher.publisher().draft(new OrderCreated("o-1")), "shop"));
        assertThat(jdbc.queryForObject("SELECT count(*) FROM courier_elsewhere", Integer.class)).isEqualTo(1);
    }

    @Test
    void flywayAndLiquibaseCreateTheTable() throws Exception {
        String columns = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) "
                + "FROM information_schema.columns WHERE table_name = 'courier_outbox'";
        String expected = jdbc.queryForObject(columns, String.class);

        DriverManagerDataSource flyway = new DriverManagerDataSource(Postgres.shared().createDatabase().jdbcUrl());
        Flyway.configure().dataSource(flyway).locations("classpath:courier/outbox/postgresql").load().migrate();
        assertThat(new JdbcTemplate(flyway).queryForObject(columns, String.class)).isEqualTo(expected);

        DriverManagerDataSource liquibase = new DriverManagerDataSource(Postgres.shared().createDatabase().jdbcUrl());
        try (Connection connection = liquibase.getConnection();
                Liquibase changes = new Liquibase("courier/outbox/liquibase.xml", new ClassLoaderResourceAccessor(),
                        new JdbcConnection(connection))) {
            changes.update(new Contexts());
        }
        assertThat(new JdbcTemplate(liquibase).queryForObject(columns, String.class)).isEqualTo(expected);
        assertThat(expected).startsWith("seq bigint, id text, source text");
        assertThat(OutboxDialect.POSTGRESQL.schema()).contains("CREATE TABLE IF NOT EXISTS courier_outbox");
    }
}
