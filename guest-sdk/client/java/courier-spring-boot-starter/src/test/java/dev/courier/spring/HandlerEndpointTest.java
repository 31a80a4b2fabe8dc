package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.PrimaryKey;
import dev.courier.Reject;
import dev.courier.Retry;
import dev.courier.Topic;
import dev.courier.Unavailable;
import io.micrometer.core.instrument.MeterRegistry;
import java.math.BigDecimal;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.web.server.LocalServerPort;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;

/** The endpoint of the handlers, called as the host calls it, in an application with Spring Security. */
@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.RANDOM_PORT, properties = {
    "spring.application.name=stock-service",
    "spring.autoconfigure.exclude=org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration,"
            + "org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration",
    "courier.handlers.signing-key=whsec_ZnJlc2gga2V5IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXM=",
    "courier.handlers.previous-signing-key=" + FakeHost.KEY,
    "courier.handlers.max-body=8KB",
    "management.endpoints.web.exposure.include=courier",
    "logging.level.dev.courier=error"})
class HandlerEndpointTest {
    private static final String NEW_KEY = "whsec_ZnJlc2gga2V5IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXM=";
    private static final String TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    private static final FakeHost HOST = new FakeHost();

    /** What an order is to make of the handler. */
    @Topic(name = "order")
    static class OrderCreated extends Event {
        @PrimaryKey
        private final String orderId;
        private final int quantity;
        private BigDecimal price;

        // No constructor that Jackson could call by itself.
        OrderCreated(int quantity, Object... others) {
            this.orderId = "o-" + quantity;
            this.quantity = quantity;
        }
    }

    @Topic(name = "order")
    static class OrderPaid extends Event {
        @PrimaryKey
        String orderId;
    }

    @EventHandler(topic = "${stock.topic:order}", consumerGroup = "stock")
    static class OrderHandler {
        final List<OrderCreated> handled = new CopyOnWriteArrayList<>();
        final List<Delivery> deliveries = new CopyOnWriteArrayList<>();

        public void handle(OrderCreated order, Delivery delivery) {
            switch (order.quantity) {
                case 1 -> throw new IllegalStateException("the shelf is empty\nand the light is off");
                case 2 -> throw new Retry("the order is locked", Duration.ofMillis(1_500));
                case 3 -> throw new Reject("the article does not exist");
                case 4 -> throw new Unavailable("the warehouse is closed", Duration.ofSeconds(30));
                case 5 -> throw new IllegalStateException(new java.io.IOException("disk is full"));
                case 6 -> throw new StackOverflowError();
                default -> {
                    handled.add(order);
                    deliveries.add(delivery);
                }
            }
        }

        public void handle(OrderPaid order) {
            OrderPaid next = new OrderPaid();
            next.orderId = order.orderId + "-next";
            EventPublisher.publish(next);
        }
    }

    @Configuration
    @EnableAutoConfiguration
    @EnableMessage
    @Import(OrderHandler.class)
    static class Application {
    }

    @DynamicPropertySource
    static void host(DynamicPropertyRegistry registry) {
        registry.add("courier.url", HOST::url);
    }

    @AfterAll
    static void stop() {
        HOST.close();
    }

    @LocalServerPort
    private int port;
    @Autowired
    private OrderHandler handler;
    @Autowired
    private MeterRegistry meters;
    @Autowired
    private CourierEndpoint actuator;

    @BeforeEach
    void forget() {
        HOST.forget();
        handler.handled.clear();
        handler.deliveries.clear();
    }

    private String url() {
        return "http://127.0.0.1:" + port + "/courier";
    }

    private FakeHost.Answer push(String type, String data) {
        return HOST.push(url(), FakeHost.event("stock", "order", type, data));
    }

    @Test
    void aSignedMessageIsHandledAndKnowsItsHeader() {
        FakeHost.Answer answer = push("OrderCreated", "{\"orderId\":\"o-1\",\"quantity\":9,\"unknown\":true}");
        assertThat(answer.status()).isEqualTo(204);
        OrderCreated order = handler.handled.get(0);
        assertThat(order.quantity).isEqualTo(9);
        assertThat(order.orderId).isEqualTo("o-1");
        assertThat(order.header().id()).isEqualTo("m-1");
        assertThat(order.header().primaryKey()).isEqualTo("o-1");
        assertThat(order.header().service()).isEqualTo("shop");
        assertThat(order.header().topic()).isEqualTo("order");
        assertThat(order.header().timeStamp()).isEqualTo(Instant.parse("2026-01-31T08:00:00Z"));
        Delivery delivery = handler.deliveries.get(0);
        assertThat(delivery.id()).isEqualTo("12-345");
        assertThat(delivery.attempt()).isEqualTo(2);
        assertThat(delivery.metadata()).containsEntry("courierkind", "event");
        assertThat(meters.get("courier.handle").tags("group", "stock", "type", "OrderCreated", "verdict", "handled")
                .timer().count()).isPositive();
    }

    @Test
    void anExceptionIsTheReasonWithItsClassAndTheFirstOwnLine() {
        FakeHost.Answer answer = push("OrderCreated", "{\"quantity\":1}");
        assertThat(answer.type()).isEqualTo("application/problem+json");
        assertThat(answer.status()).isEqualTo(500);
        assertThat(answer.json().get("verdict").asText()).isEqualTo("error");
        assertThat(answer.json().get("reason").asText()).startsWith("IllegalStateException: the shelf is empty")
                .matches("(?s).*\\(at HandlerEndpointTest\\$OrderHandler\\.handle:\\d+\\)");
        assertThat(push("OrderCreated", "{\"quantity\":5}").json().get("reason").asText())
                .contains("caused by IOException: disk is full");
        assertThat(push("OrderCreated", "{\"quantity\":6}").json().get("reason").asText())
                .startsWith("StackOverflowError (at ");
    }

    @Test
    void aHandlerSaysWhatIsToFollow() {
        JsonNode retry = push("OrderCreated", "{\"quantity\":2}").json();
        assertThat(retry.get("verdict").asText()).isEqualTo("retry");
        assertThat(retry.get("reason").asText()).isEqualTo("the order is locked");
        assertThat(retry.get("after").asText()).isEqualTo("1500ms");
        FakeHost.Answer reject = push("OrderCreated", "{\"quantity\":3}");
        assertThat(reject.status()).isEqualTo(422);
        assertThat(reject.json().get("verdict").asText()).isEqualTo("reject");
        FakeHost.Answer unavailable = push("OrderCreated", "{\"quantity\":4}");
        assertThat(unavailable.status()).isEqualTo(503);
        assertThat(unavailable.json().get("verdict").asText()).isEqualTo("unavailable");
        assertThat(unavailable.json().get("after").asText()).isEqualTo("30000ms");
    }

    @Test
    void aBodyThatIsNoneOfTheClassIsRejectedWithTheReason() {
        JsonNode problem = push("OrderCreated", "{\"quantity\":\"many\"}").json();
        assertThat(problem.get("verdict").asText()).isEqualTo("reject");
        assertThat(problem.get("reason").asText()).contains("OrderCreated").contains("many");
        problem = push("OrderCreated", "null").json();
        assertThat(problem.get("reason").asText()).isEqualTo("the message has no body");
    }

    @Test
    void aTypeThatANewerVersionMayHandleIsTriedAgain() {
        FakeHost.Answer answer = push("OrderShipped", "{}");
        assertThat(answer.status()).isEqualTo(500);
        assertThat(answer.json().get("verdict").asText()).isEqualTo("retry");
        assertThat(answer.json().get("reason").asText()).contains("OrderShipped", "only OrderCreated, OrderPaid",
                "@Topic(name = \"order\", type = \"OrderShipped\")", "`types`");
    }

    @Test
    void whatSpeaksOfTheAddressIsUnavailable() {
        FakeHost.Answer answer = HOST.push(url(), FakeHost.event("price-cache", "order", "OrderCreated", "{}"));
        assertThat(answer.status()).isEqualTo(404);
        assertThat(answer.json().get("verdict").asText()).isEqualTo("unavailable");
        assertThat(answer.json().get("reason").asText()).contains("price-cache");
        answer = HOST.push(url(), "{}", FakeHost.KEY, Clock.systemUTC(), Map.of("content-type", "application/json"));
        assertThat(answer.status()).isEqualTo(415);
        assertThat(answer.json().get("verdict").asText()).isEqualTo("unavailable");
        assertThat(HOST.push(url(), "{]").status()).isEqualTo(400);
        assertThat(HOST.get(url()).status()).isEqualTo(405);
        answer = push("OrderCreated", "{\"orderId\":\"" + "x".repeat(9_000) + "\"}");
        assertThat(answer.status()).isEqualTo(413);
        assertThat(answer.json().get("reason").asText()).contains("courier.handlers.max-body");
    }

    @Test
    void onlyASignatureOfOneOfTheKeysLetsARequestIn() {
        String body = FakeHost.event("stock", "order", "OrderCreated", "{\"quantity\":9}");
        Map<String, String> headers = Map.of("content-type", "application/cloudevents+json");
        assertThat(HOST.push(url(), body, NEW_KEY, Clock.systemUTC(), headers).status()).isEqualTo(204);
        assertThat(HOST.push(url(), body, FakeHost.KEY, Clock.systemUTC(), headers).status()).isEqualTo(204);
        handler.handled.clear();
        String other = "whsec_b3RoZXIga2V5IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXM=";
        Clock old = Clock.fixed(Instant.now().minusSeconds(301), ZoneOffset.UTC);
        assertThat(HOST.push(url(), body, other, Clock.systemUTC(), headers).status()).isEqualTo(401);
        assertThat(HOST.push(url(), body, null, Clock.systemUTC(), headers).status()).isEqualTo(401);
        assertThat(HOST.push(url(), body, FakeHost.KEY, old, headers).status()).isEqualTo(401);
        assertThat(handler.handled).isEmpty();
        // The rest of the application is as closed as Spring Security makes it.
        assertThat(HOST.get("http://127.0.0.1:" + port + "/courier/other").status()).isEqualTo(401);
    }

    @Test
    void aBatchHasAnAnswerForEachMessage() {
        String batch = "[" + FakeHost.event("stock", "order", "OrderCreated", "{\"quantity\":9}") + ","
                + FakeHost.event("stock", "order", "OrderCreated", "{\"quantity\":3}") + "]";
        FakeHost.Answer answer = HOST.push(url(), batch, FakeHost.KEY, Clock.systemUTC(),
                Map.of("content-type", "application/cloudevents-batch+json; charset=utf-8"));
        assertThat(answer.status()).isEqualTo(200);
        assertThat(answer.type()).isEqualTo("application/json");
        assertThat(answer.json().get(0).get("verdict").asText()).isEqualTo("handled");
        assertThat(answer.json().get(1).get("verdict").asText()).isEqualTo("reject");
        assertThat(handler.handled).hasSize(1);
    }

    @Test
    void aBodyThatBreaksALimitIsRejectedAlone() {
        String deep = "{\"unknown\":" + "[".repeat(1_200) + "]".repeat(1_200) + "}";
        JsonNode problem = push("OrderCreated", deep).json();
        assertThat(problem.get("verdict").asText()).isEqualTo("reject");
        assertThat(problem.get("reason").asText()).contains("OrderCreated").contains("depth");
        String batch = "[" + FakeHost.event("stock", "order", "OrderCreated", deep) + ","
                + FakeHost.event("stock", "order", "OrderCreated", "{\"quantity\":9}") + "]";
        JsonNode answers = HOST.push(url(), batch, FakeHost.KEY, Clock.systemUTC(),
                Map.of("content-type", "application/cloudevents-batch+json")).json();
        assertThat(answers.get(0).get("verdict").asText()).isEqualTo("reject");
        assertThat(answers.get(1).get("verdict").asText()).isEqualTo("handled");
    }

    @Test
    void aNumberComesWithAllItsDigits() {
        assertThat(push("OrderCreated", "{\"quantity\":9,\"price\":12345678901234567.80}").status()).isEqualTo(204);
        assertThat(handler.handled.get(0).price).isEqualTo(new BigDecimal("12345678901234567.80"));
    }

    @Test
    void whatAHandlerPublishesIsInTheTraceOfItsMessage() {
        String body = FakeHost.event("stock", "order", "OrderPaid", "{\"orderId\":\"o-1\"}");
        HOST.push(url(), body, FakeHost.KEY, Clock.systemUTC(),
                Map.of("content-type", "application/cloudevents+json", "traceparent", TRACE));
        JsonNode next = HOST.published().get(0);
        assertThat(next.at("/headers/traceparent").asText()).isEqualTo(TRACE);
        assertThat(next.get("source").asText()).isEqualTo("stock-service");
        assertThat(meters.get("courier.publish").tags("topic", "order", "outcome", "committed").timer().count())
                .isPositive();
    }

    @Test
    void theActuatorShowsWhatTheHostNeedsAndNoKey() {
        Map<String, Object> shown = actuator.courier();
        assertThat(shown.get("toml")).isEqualTo("""
                [[binding]]
                group = "stock"
                topics = ["order"]
                types = ["OrderCreated", "OrderPaid"]
                plugin = "http-push"
                [binding.retry]
                max_attempts = 10
                [binding.config]
                url = "http://localhost:%d/courier"
                [binding.secrets]
                signing_key = { env = "COURIER_SIGNING_KEY" }
                """.formatted(port));
        assertThat(shown.get("handlers").toString()).contains("OrderHandler.handle(OrderCreated)");
        assertThat(shown).doesNotContainKey("outbox");
        assertThat(shown.toString()).doesNotContain("whsec_").contains(HOST.url());
    }
}
