package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.courier.Event;
import dev.courier.Topic;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.jackson.JacksonAutoConfiguration;
import org.springframework.boot.test.context.runner.WebApplicationContextRunner;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Scope;
import org.springframework.context.annotation.ScopedProxyMode;
import org.springframework.core.NestedExceptionUtils;
import org.springframework.scheduling.annotation.Async;

/** Which beans and methods can be handlers. */
class HandlerBeansTest {
    @Topic(name = "order")
    static class OrderCreated extends Event {
    }

    @Configuration
    @EnableMessage
    static class Application {
    }

    @EventHandler(consumerGroup = "stock")
    static class OfAsync {
        @Async
        public void handle(OrderCreated order) {
        }
    }

    @Async
    @EventHandler(consumerGroup = "stock")
    static class OfAsyncClass {
        public void handle(OrderCreated order) {
        }
    }

    @EventHandler(consumerGroup = "stock")
    static class OfFuture {
        public Future<?> handle(OrderCreated order) {
            return null;
        }
    }

    @EventHandler(consumerGroup = "stock")
    static class OfStage {
        public CompletableFuture<Void> handle(OrderCreated order) {
            return null;
        }
    }

    @EventHandler(consumerGroup = "stock")
    static class OfPublisher {
        public Flow.Publisher<String> handle(OrderCreated order) {
            return null;
        }
    }

    @EventHandler(consumerGroup = "stock")
    static class OfObject {
        private static Object returned;

        public Object handle(OrderCreated order) {
            return returned;
        }
    }

    /** What a proxy of interfaces has, instead of {@code handle}. */
    interface Named {
        /** Any name. */
        String name();
    }

    @EventHandler(consumerGroup = "stock")
    @Scope(scopeName = "prototype", proxyMode = ScopedProxyMode.TARGET_CLASS)
    static class OfScope {
        private static int made;

        OfScope() {
            made++;
        }

        public void handle(OrderCreated order) {
        }
    }

    @EventHandler(consumerGroup = "stock")
    @Scope(scopeName = "prototype", proxyMode = ScopedProxyMode.INTERFACES)
    static class OfInterfaces implements Named {
        @Override
        public String name() {
            return "any";
        }

        public void handle(OrderCreated order) {
        }
    }

    private final WebApplicationContextRunner runner = new WebApplicationContextRunner()
            .withConfiguration(AutoConfigurations.of(JacksonAutoConfiguration.class, CourierAutoConfiguration.class))
            .withUserConfiguration(Application.class)
            .withPropertyValues("courier.handlers.signing-key=" + FakeHost.KEY);

    private void fails(Class<?> handler, String... words) {
        runner.withUserConfiguration(handler).run(context -> {
            assertThat(context).hasFailed();
            assertThat(NestedExceptionUtils.getMostSpecificCause(context.getStartupFailure()))
                    .hasMessageContainingAll(words);
        });
    }

    private static Answer push(ApplicationContext context) {
        MessageDispatcher dispatcher = new MessageDispatcher(context.getBean(HandlerRegistry.class), context,
                new ObjectMapper(), (group, method, verdict, took) -> { }, () -> false);
        try {
            return dispatcher.dispatch(CloudEvent.one(
                    FakeHost.event("stock", "order", "OrderCreated", "{}").getBytes(StandardCharsets.UTF_8)));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @Test
    void methodsThatRunAfterTheirReturnAreRefused() {
        fails(OfAsync.class, "OfAsync.handle(OrderCreated) is asynchronous", "remove @Async");
        fails(OfAsyncClass.class, "OfAsyncClass.handle(OrderCreated) is asynchronous", "remove @Async");
        fails(OfFuture.class, "OfFuture.handle(OrderCreated) returns a Future", "join()", "return void");
        fails(OfStage.class, "OfStage.handle(OrderCreated) returns a CompletableFuture", "join()", "return void");
        fails(OfPublisher.class, "OfPublisher.handle(OrderCreated) returns a Publisher", "block()", "return void");
    }

    @Test
    void aFutureThatTheMethodDoesNotDeclareIsAnError() {
        runner.withUserConfiguration(OfObject.class).run(context -> {
            OfObject.returned = "done";
            assertThat(push(context)).isEqualTo(Answer.HANDLED);
            OfObject.returned = new CompletableFuture<>();
            assertThat(push(context).verdict()).isEqualTo("error");
            assertThat(push(context).reason()).contains("OfObject.handle(OrderCreated)").contains("CompletableFuture");
        });
    }

    @Test
    void aBeanWithAScopeHandlesOnce() {
        runner.withUserConfiguration(OfScope.class).run(context -> {
            assertThat(context).hasNotFailed();
            assertThat(context.getBean(HandlerRegistry.class).methods()).hasSize(1);
            int before = OfScope.made;
            assertThat(push(context)).isEqualTo(Answer.HANDLED);
            assertThat(push(context)).isEqualTo(Answer.HANDLED);
            assertThat(OfScope.made).isEqualTo(before + 2);
        });
    }

    @Test
    void aProxyWithoutTheMethodIsRefusedAtTheStart() {
        fails(OfInterfaces.class, "OfInterfaces", "handle", "proxy");
    }
}
