package shop;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import dev.courier.InvalidMessageException;
import dev.courier.spring.FakeHost;
import java.util.Date;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.web.server.LocalServerPort;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;
import org.springframework.transaction.support.TransactionTemplate;

/** The code of {@link Shop} with JPA on a real PostgreSQL. */
@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.RANDOM_PORT, properties = {
    "spring.application.name=shop",
    "spring.jpa.hibernate.ddl-auto=create",
    "courier.outbox.initialize-schema=always",
    "courier.handlers.signing-key=" + FakeHost.KEY})
class ShopTest {
    private static final FakeHost HOST = new FakeHost();

    @DynamicPropertySource
    static void servers(DynamicPropertyRegistry registry) {
        HOST.register(registry);
    }

    @AfterAll
    static void stop() {
        HOST.close();
    }

    @LocalServerPort
    private int port;
    @Autowired
    private OrderService service;
    @Autowired
    private OrderMessageHandler handler;
    @Autowired
    private JdbcTemplate jdbc;
    @Autowired
    private TransactionTemplate transaction;

    @BeforeEach
    void forget() {
        HOST.forget();
        jdbc.execute("TRUNCATE courier_outbox, shop_order");
    }

    private static OrderCreated created(String id) {
        return new OrderCreated(id, "tea", new Date(0));
    }

    private static Order order(String id) {
        Order order = new Order();
        order.id = id;
        return order;
    }

    private int count(String table) {
        return jdbc.queryForObject("SELECT count(*) FROM " + table, Integer.class);
    }

    @Test
    void outsideOfATransactionMessagesGoToTheHost() {
        service.say(created("o-1"));
        List<JsonNode> sent = HOST.published();
        assertThat(sent).hasSize(4);
        assertThat(sent.get(0).get("key").asText()).isEqualTo("o-0");
        assertThat(sent.get(1).get("key").asText()).isEqualTo("o-1");
        assertThat(sent.get(1).get("source").asText()).isEqualTo("shop");
        assertThat(sent.get(1).get("body").toString())
                .isEqualTo("{\"orderId\":\"o-1\",\"orderName\":\"tea\",\"createdAt\":\"1970-01-01T00:00:00.000+00:00\"}");
        assertThat(sent.get(2).get("delay").asText()).isEqualTo("2000ms");
        assertThat(sent.get(3).get("kind").asText()).isEqualTo("broadcast");
        assertThat(count("courier_outbox")).isZero();
    }

    @Test
    void withinATransactionAMessageExistsIfAndOnlyIfItCommits() {
        service.place(order("o-1"), created("o-1"));
        assertThat(count("courier_outbox")).isEqualTo(1);
        assertThat(count("shop_order")).isEqualTo(1);
        assertThatThrownBy(() -> transaction.executeWithoutResult(status -> {
            service.place(order("o-2"), created("o-2"));
            throw new IllegalStateException("no");
        })).hasMessage("no");
        assertThat(count("courier_outbox")).isEqualTo(1);
        assertThat(count("shop_order")).isEqualTo(1);
        assertThat(HOST.published()).isEmpty();
    }

    @Test
    void aMessageWithoutItsKeyIsRefusedWithItsOrder() {
        assertThatThrownBy(() -> service.place(order("o-3"), created(null)))
                .isInstanceOf(InvalidMessageException.class).hasMessageContaining("OrderCreated.orderId is null");
        assertThat(count("shop_order")).isZero();
    }

    @Test
    void aHandlerIsCalled() {
        FakeHost.Answer answer = HOST.push("http://127.0.0.1:" + port + "/courier", FakeHost.event("stock", "order",
                "OrderCreated", "{\"orderId\":\"o-1\",\"createdAt\":\"1970-01-01T00:00:00.000+00:00\"}"));
        assertThat(answer.status()).isEqualTo(204);
        OrderCreated handled = handler.handled.remove();
        assertThat(handled.orderId).isEqualTo("o-1");
        assertThat(handled.createdAt).isEqualTo(new Date(0));
    }
}
