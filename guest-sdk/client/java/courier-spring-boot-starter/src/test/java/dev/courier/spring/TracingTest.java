package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;

import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.Topic;
import java.time.Clock;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.test.autoconfigure.actuate.observability.AutoConfigureObservability;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.web.server.LocalServerPort;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;

/** With Micrometer's tracer a message is published in the span of the request that publishes it. */
@AutoConfigureObservability
@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.RANDOM_PORT, properties = {
    "spring.autoconfigure.exclude=org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration,"
            + "org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration",
    "management.tracing.sampling.probability=1.0",
    "courier.handlers.signing-key=" + FakeHost.KEY})
class TracingTest {
    private static final FakeHost HOST = new FakeHost();

    @Topic(name = "order")
    static class OrderCreated extends Event {
    }

    @Topic(name = "stock")
    static class StockReserved extends Event {
    }

    @EventHandler(consumerGroup = "stock")
    static class OrderHandler {
        public void handle(OrderCreated order) {
            EventPublisher.publish(new StockReserved());
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

    @Test
    void theTraceGoesOnInASpanOfTheServicesOwn() {
        FakeHost.Answer answer = HOST.push("http://127.0.0.1:" + port + "/courier",
                FakeHost.event("stock", "order", "OrderCreated", "{}"), FakeHost.KEY, Clock.systemUTC(),
                Map.of("content-type", "application/cloudevents+json", "traceparent",
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assertThat(answer.status()).isEqualTo(204);
        assertThat(HOST.published().get(0).at("/headers/traceparent").asText())
                .matches("00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01").doesNotContain("b7ad6b7169203331");
    }
}
