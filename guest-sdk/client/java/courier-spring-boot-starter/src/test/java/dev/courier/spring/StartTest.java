package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.Publisher;
import dev.courier.Topic;
import java.nio.charset.StandardCharsets;
import org.assertj.core.api.AbstractThrowableAssert;
import org.junit.jupiter.api.Test;
import org.springframework.boot.LazyInitializationBeanFactoryPostProcessor;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.jackson.JacksonAutoConfiguration;
import org.springframework.boot.test.context.assertj.AssertableWebApplicationContext;
import org.springframework.boot.test.context.runner.WebApplicationContextRunner;
import org.springframework.context.annotation.Configuration;
import org.springframework.core.NestedExceptionUtils;

/** What an application is told at its start when something is wrong. */
class StartTest {
    @Topic(name = "order")
    static class OrderCreated extends Event {
    }

    static class WithoutTopic extends Event {
    }

    @Configuration
    @EnableMessage
    static class Application {
    }

    @Configuration
    static class NotEnabled {
    }

    @EventHandler(topic = "order", consumerGroup = "stock")
    static class Good {
        public void handle(OrderCreated order) {
        }
    }

    @EventHandler(topic = "order", consumerGroup = "stock")
    static class Double {
        public void handle(OrderCreated order) {
        }
    }

    @EventHandler(topic = "orders", consumerGroup = "stock")
    static class OtherTopic {
        public void handle(OrderCreated order) {
        }
    }

    @EventHandler(topic = "order", consumerGroup = "stock")
    static class NoMethod {
        public void takes(OrderCreated order) {
        }
    }

    @EventHandler(topic = "order", consumerGroup = "stock")
    static class NoMessage {
        public void handle(String order) {
        }
    }

    @EventHandler(consumerGroup = "stock")
    static class NoTopic {
        public void handle(WithoutTopic order) {
        }
    }

    private final WebApplicationContextRunner runner = new WebApplicationContextRunner()
            .withConfiguration(AutoConfigurations.of(JacksonAutoConfiguration.class, CourierAutoConfiguration.class))
            .withUserConfiguration(Application.class)
            .withPropertyValues("courier.handlers.signing-key=" + FakeHost.KEY);

    /** The first cause of a start that failed. */
    private static AbstractThrowableAssert<?, ? extends Throwable> failure(AssertableWebApplicationContext context) {
        assertThat(context).hasFailed();
        return assertThat(NestedExceptionUtils.getMostSpecificCause(context.getStartupFailure()));
    }

    private void fails(Class<?> handler, String... words) {
        runner.withUserConfiguration(handler).run(context -> {
            for (String word : words) {
                failure(context).hasMessageContaining(word);
            }
        });
    }

    @Test
    void handlersThatCannotWorkAreRefusedByName() {
        fails(OtherTopic.class, "OtherTopic.handle(OrderCreated)", "order", "orders");
        fails(NoMethod.class, "NoMethod", "public void handle");
        fails(NoMessage.class, "NoMessage.handle", "extends Event or Broadcast");
        fails(NoTopic.class, "WithoutTopic names no topic");
        runner.withUserConfiguration(Good.class, Double.class).run(context ->
                failure(context).hasMessageContaining("Good.handle(OrderCreated)")
                        .hasMessageContaining("Double.handle(OrderCreated)").hasMessageContaining("stock"));
    }

    @Test
    void handlersWithoutAKeyAreRefusedUnlessToldOtherwise() {
        runner.withUserConfiguration(Good.class).withPropertyValues("courier.handlers.signing-key=").run(context ->
                failure(context)
                        .hasMessageContaining("courier.handlers.signing-key is missing"));
        runner.withUserConfiguration(Good.class)
                .withPropertyValues("courier.handlers.signing-key=", "courier.handlers.unsigned=true")
                .run(context -> assertThat(context.getBean(HostConfiguration.class).toml())
                        .contains("mode = \"structured\"").doesNotContain("signing_key"));
        runner.withUserConfiguration(Good.class).withPropertyValues("courier.handlers.signing-key=hunter2")
                .run(context -> failure(context)
                        .hasMessageContaining("signing key is not whsec_").hasMessageNotContaining("hunter2"));
    }

    @Test
    void theStaticPublisherIsTheApplicationsUntilItEnds() {
        runner.withPropertyValues("courier.handlers.signing-key=").run(context -> {
            assertThat(context).hasNotFailed();
            assertThat(EventPublisher.publisher()).isSameAs(context.getBean(CourierPublisher.class));
        });
        assertThatThrownBy(EventPublisher::publisher).isInstanceOf(IllegalStateException.class);
    }

    @Test
    void anApplicationWithLazyBeansPublishesAndHandlesAsWell() {
        runner.withUserConfiguration(Good.class)
                .withInitializer(context ->
                        context.addBeanFactoryPostProcessor(new LazyInitializationBeanFactoryPostProcessor()))
                .run(context -> {
                    assertThat(EventPublisher.publisher()).isInstanceOf(CourierPublisher.class);
                    assertThat(context.getBean(HandlerRegistry.class).methods()).hasSize(1);
                });
    }

    @EventHandler(topic = "order", consumerGroup = "stock")
    static class Failing {
        public void handle(OrderCreated order) {
            throw new IllegalStateException("the pool is closed");
        }
    }

    @Test
    void anApplicationThatStopsIsNoFailureOfItsMessages() throws Exception {
        ObjectMapper mapper = new ObjectMapper();
        CloudEvent event = CloudEvent.one(FakeHost.event("stock", "order", "OrderCreated", "{}")
                .getBytes(StandardCharsets.UTF_8));
        runner.withUserConfiguration(Failing.class).run(context -> {
            HandlerRegistry registry = context.getBean(HandlerRegistry.class);
            boolean[] stopping = {false};
            MessageDispatcher dispatcher = new MessageDispatcher(registry, context, mapper,
                    (group, method, verdict, took) -> { }, () -> stopping[0]);
            assertThat(dispatcher.dispatch(event).verdict()).isEqualTo("error");
            stopping[0] = true;
            Answer answer = dispatcher.dispatch(event);
            assertThat(answer.verdict()).isEqualTo("unavailable");
            assertThat(answer.reason()).contains("being stopped").contains("the pool is closed");
        });
    }

    @Test
    void withoutTheAnnotationTheStarterDoesNothing() {
        new WebApplicationContextRunner()
                .withConfiguration(AutoConfigurations.of(JacksonAutoConfiguration.class,
                        CourierAutoConfiguration.class))
                .withUserConfiguration(NotEnabled.class)
                .run(context -> assertThat(context).hasNotFailed().doesNotHaveBean(Publisher.class));
    }
}
