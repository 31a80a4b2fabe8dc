package dev.courier.spring;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.courier.CourierClient;
import dev.courier.EventPublisher;
import dev.courier.Publisher;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import io.micrometer.tracing.Tracer;
import jakarta.servlet.Filter;
import java.time.Clock;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.springframework.beans.factory.BeanFactoryUtils;
import org.springframework.beans.factory.ListableBeanFactory;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.beans.factory.SmartInitializingSingleton;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.boot.actuate.autoconfigure.endpoint.condition.ConditionalOnAvailableEndpoint;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.autoconfigure.condition.ConditionalOnWebApplication;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Lazy;
import org.springframework.core.env.Environment;
import org.springframework.jdbc.datasource.DataSourceUtils;
import org.springframework.transaction.ConfigurableTransactionManager;
import org.springframework.transaction.support.TransactionSynchronizationManager;

/** Sets up sending and handling for an application with {@link EnableMessage}. */
@AutoConfiguration(afterName = {
    "org.springframework.boot.autoconfigure.jackson.JacksonAutoConfiguration",
    "org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration",
    "org.springframework.boot.autoconfigure.transaction.TransactionAutoConfiguration",
    "org.springframework.boot.actuate.autoconfigure.metrics.CompositeMeterRegistryAutoConfiguration",
    "org.springframework.boot.actuate.autoconfigure.tracing.MicrometerTracingAutoConfiguration",
    "org.springframework.boot.actuate.autoconfigure.tracing.OpenTelemetryTracingAutoConfiguration"})
@ConditionalOnBean(EnabledMarker.class)
@EnableConfigurationProperties(CourierProperties.class)
public final class CourierAutoConfiguration {
    /** The mapper of bodies: the application's own, which also makes messages without a constructor. */
    record BodyMapper(ObjectMapper mapper) {
    }

    /** The trace that the thread works in. */
    record Trace(Supplier<String> traceparent) {
    }

    /** What stands between the application and the client, the inner one first. */
    record Layer(int order, UnaryOperator<Publisher> wrap) {
    }

    /** The outbox of this application; null where it has no DataSource, or several and no word which. */
    record OutboxInUse(OutboxWriter writer) {
    }

    @Bean
    BodyMapper courierBodyMapper(ObjectProvider<ObjectMapper> mappers) {
        ObjectMapper own = mappers.getIfAvailable(ObjectMapper::new);
        return new BodyMapper(own.copy().registerModule(new MessageModule()));
    }

    @Bean
    @ConditionalOnMissingBean
    Trace courierTrace() {
        return new Trace(TraceContext::received);
    }

    @Bean
    @ConditionalOnMissingBean
    CourierClient courierClient(CourierProperties properties, Environment environment, BodyMapper mapper,
            Trace trace) {
        String application = environment.getProperty("spring.application.name");
        String source = properties.source() != null ? properties.source() : application;
        return CourierClient.builder(properties.url()).token(properties.token())
                .source(source == null || source.isBlank() ? null : source)
                .timeout(properties.timeout()).tryTimeout(properties.tryTimeout())
                .connectTimeout(properties.connectTimeout())
                .mapper(mapper.mapper()).traceparent(trace.traceparent()).build();
    }

    /**
     * What the static methods of {@link EventPublisher} publish with, for as long as the application runs. Nobody
     * injects it, so it would never be made in an application whose beans are lazy.
     */
    @Bean
    @Lazy(false)
    CourierPublisher courierPublisher(CourierClient client, ObjectProvider<Layer> layers) {
        Publisher publisher = client;
        for (Layer layer : layers.stream().sorted(java.util.Comparator.comparing(Layer::order)).toList()) {
            publisher = layer.wrap().apply(publisher);
        }
        return new CourierPublisher(publisher);
    }

    @Bean
    HandlerRegistry courierHandlerRegistry(ConfigurableListableBeanFactory beans) {
        return new HandlerRegistry(beans);
    }

    @Bean
    HostConfiguration courierHostConfiguration(HandlerRegistry registry, CourierProperties properties,
            Environment environment, ObjectProvider<OutboxInUse> outbox) {
        boolean used = outbox.stream().anyMatch(one -> one.writer() != null);
        return new HostConfiguration(registry, properties, environment, used);
    }

    @Bean
    Announcement courierAnnouncement(HandlerRegistry registry, HostConfiguration host,
            ConfigurableListableBeanFactory beans) {
        return new Announcement(registry, host, beans.containsBean("courierHandlerEndpoint"));
    }

    /** Messages within transactions are rows of the outbox, or refused where it has none for them. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass(TransactionSynchronizationManager.class)
    @ConditionalOnProperty(name = "courier.outbox.enabled", matchIfMissing = true)
    static class TransactionConfiguration {
        @Bean
        Layer courierTransactions(ObjectProvider<OutboxInUse> outbox) {
            OutboxInUse used = outbox.getIfAvailable(() -> new OutboxInUse(null));
            return new Layer(0, publisher -> new TransactionalPublisher(publisher, used.writer()));
        }

        @Bean
        SmartInitializingSingleton courierTransactionPhase(ListableBeanFactory beans) {
            // All that there are, also those that are only injected by their names.
            return () -> BeanFactoryUtils.beansOfTypeIncludingAncestors(beans, ConfigurableTransactionManager.class)
                    .values().forEach(manager -> manager.addListener(new TransactionPhase(manager)));
        }
    }

    /** The outbox is a table of a database. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass({DataSourceUtils.class, DataSource.class})
    @ConditionalOnProperty(name = "courier.outbox.enabled", matchIfMissing = true)
    static class OutboxConfiguration {
        @Bean
        OutboxInUse courierOutbox(ObjectProvider<DataSource> sources, ConfigurableListableBeanFactory beans,
                CourierProperties properties) {
            CourierProperties.Outbox outbox = properties.outbox();
            DataSource source = outbox.dataSource() == null ? sources.getIfUnique()
                    : beans.getBean(outbox.dataSource(), DataSource.class);
            if (source == null) {
                return new OutboxInUse(null);
            }
            OutboxWriter writer = new OutboxWriter(source, outbox.table());
            if (outbox.initializeSchema() == CourierProperties.InitializeSchema.ALWAYS) {
                writer.initializeSchema();
            }
            return new OutboxInUse(writer);
        }
    }

    /** Handlers are called over HTTP. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnWebApplication(type = ConditionalOnWebApplication.Type.SERVLET)
    @ConditionalOnClass(Filter.class)
    static class EndpointConfiguration {
        /** After the filters of tracing and of the request's scope, and before those of Spring Security. */
        private static final int ORDER = -101;

        @Bean
        FilterRegistrationBean<Filter> courierHandlerEndpoint(HandlerRegistry registry, BodyMapper mapper,
                CourierProperties properties, ConfigurableApplicationContext context,
                ObjectProvider<MessageDispatcher.Listener> listeners) {
            CourierProperties.Handlers handlers = properties.handlers();
            MessageDispatcher dispatcher = new MessageDispatcher(registry, context, mapper.mapper(),
                    listeners.getIfAvailable(() -> (group, method, verdict, took) -> { }), context::isClosed);
            dev.courier.WebhookSignature signature = registry.hasHandlers() ? signature(handlers) : null;
            int maxBody = Math.toIntExact(handlers.maxBody().toBytes());
            FilterRegistrationBean<Filter> registration = new FilterRegistrationBean<>(
                    new HandlerEndpoint(dispatcher, signature, mapper.mapper(), maxBody));
            registration.setName("courierHandlerEndpoint");
            registration.addUrlPatterns(handlers.path());
            registration.setOrder(ORDER);
            registration.setEnabled(registry.hasHandlers());
            return registration;
        }

        private static dev.courier.WebhookSignature signature(CourierProperties.Handlers handlers) {
            List<String> keys = Stream.of(handlers.signingKey(), handlers.previousSigningKey())
                    .filter(Objects::nonNull).filter(key -> !key.isBlank()).toList();
            if (!keys.isEmpty()) {
                return new dev.courier.WebhookSignature(keys, handlers.tolerance(), Clock.systemUTC());
            }
            if (handlers.unsigned()) {
                return null;
            }
            throw new IllegalStateException("courier.handlers.signing-key is missing, so anybody could call the "
                    + "handlers: set it to whsec_ and base64 of 24 to 64 random bytes (echo whsec_$(openssl rand "
                    + "-base64 32)), the same as the host's signing_key, or set courier.handlers.unsigned=true for "
                    + "development");
        }
    }

    /** Messages are counted and timed. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass(MeterRegistry.class)
    @ConditionalOnBean(MeterRegistry.class)
    static class MetricsConfiguration {
        @Bean
        Layer courierMetrics(MeterRegistry registry) {
            return new Layer(1, publisher -> new MeteredPublisher(publisher, registry));
        }

        @Bean
        MessageDispatcher.Listener courierHandlerMetrics(MeterRegistry registry) {
            return (group, method, verdict, took) -> Timer.builder("courier.handle")
                    .description("Messages that handlers were called with")
                    .tags("group", group, "topic", method.type().topic(), "type", method.type().name(),
                            "verdict", verdict)
                    .register(registry).record(took);
        }
    }

    /** Messages carry the trace of Micrometer's tracer. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass(Tracer.class)
    @ConditionalOnBean(Tracer.class)
    static class TracingConfiguration {
        @Bean
        Trace courierMicrometerTrace(Tracer tracer) {
            return new Trace(TraceContext.of(tracer));
        }
    }

    /** The actuator shows how the application sends and handles. */
    @Configuration(proxyBeanMethods = false)
    @ConditionalOnClass(ConditionalOnAvailableEndpoint.class)
    static class ActuatorConfiguration {
        @Bean
        @ConditionalOnAvailableEndpoint(endpoint = CourierEndpoint.class)
        CourierEndpoint courierEndpoint(CourierPublisher publisher, CourierProperties properties,
                HandlerRegistry registry, HostConfiguration host) {
            return new CourierEndpoint(publisher, properties, registry, host);
        }
    }
}
