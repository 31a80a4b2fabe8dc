package courier.bench;

import java.util.Map;
import org.springframework.boot.SpringApplication;

/** What both Spring peers are started with. */
final class SpringPeer {
    /** Consumers, each with partitions of its own. */
    static final String CONSUMERS = "4";

    private SpringPeer() {}

    static void start(Class<?> application, Map<String, Object> own) {
        var settings = new java.util.HashMap<String, Object>(Map.of(
                "spring.main.web-application-type", "none",
                "spring.main.banner-mode", "off",
                "spring.kafka.bootstrap-servers", Contract.BOOTSTRAP,
                "spring.kafka.consumer.group-id", Contract.GROUP,
                "spring.kafka.consumer.auto-offset-reset", "earliest",
                "spring.kafka.consumer.isolation-level", "read_committed",
                "spring.kafka.consumer.key-deserializer",
                        "org.apache.kafka.common.serialization.ByteArrayDeserializer",
                "spring.kafka.consumer.value-deserializer",
                        "org.apache.kafka.common.serialization.ByteArrayDeserializer",
                "spring.kafka.listener.concurrency", CONSUMERS,
                "spring.datasource.url", Contract.jdbcUrl()));
        settings.put("spring.kafka.consumer.properties.session.timeout.ms", Contract.SESSION_TIMEOUT_MS);
        settings.put("spring.kafka.consumer.heartbeat-interval", Contract.HEARTBEAT_MS + "ms");
        settings.put("bench.topic", Contract.TOPIC);
        settings.put("logging.level.root", "WARN");
        settings.putAll(own);
        var spring = new SpringApplication(application);
        spring.setDefaultProperties(settings);
        Contract.tell();
        spring.run();
    }
}
