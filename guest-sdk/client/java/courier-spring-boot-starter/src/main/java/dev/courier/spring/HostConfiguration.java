package dev.courier.spring;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.springframework.core.env.Environment;

/** Writes what is to be added to the host's {@code courier.toml} for this service. */
final class HostConfiguration {
    private static final String DEFAULT_TABLE = dev.courier.Outbox.DEFAULT_TABLE;

    private static final int SHOWN_ATTEMPTS = 10;

    private final HandlerRegistry registry;
    private final CourierProperties properties;
    private final Environment environment;
    private final boolean outbox;

    /**
     * Knows this service.
     *
     * @param registry    its handlers
     * @param properties  its configuration
     * @param environment tells its port and its database
     * @param outbox      whether it has an outbox
     */
    HostConfiguration(HandlerRegistry registry, CourierProperties properties, Environment environment,
            boolean outbox) {
        this.registry = registry;
        this.properties = properties;
        this.environment = environment;
        this.outbox = outbox;
    }

    /** Whether this service has an outbox. */
    boolean hasOutbox() {
        return outbox;
    }

    /** The URL at which the host reaches the handlers. */
    String handlersUrl() {
        if (properties.handlers().url() != null) {
            return properties.handlers().url();
        }
        String scheme = environment.getProperty("server.ssl.enabled", Boolean.class,
                environment.containsProperty("server.ssl.bundle") || environment.containsProperty("server.ssl.key-store"))
                ? "https" : "http";
        String port = environment.getProperty("local.server.port", environment.getProperty("server.port", "8080"));
        String context = environment.getProperty("server.servlet.context-path", "");
        return scheme + "://localhost:" + port + context + properties.handlers().path();
    }

    /** The text to add; empty when there is nothing. */
    String toml() {
        List<String> lines = new ArrayList<>();
        if (outbox) {
            outbox(lines);
        }
        registry.all().forEach((group, topics) -> topics.forEach((topic, types) -> binding(lines, group, topic, types)));
        return String.join("\n", lines);
    }

    private void outbox(List<String> lines) {
        String name = environment.getProperty("spring.application.name", "");
        lines.add("[[outbox]]");
        lines.add("name = " + quoted(name.isBlank() ? "service" : name));
        lines.add("url = " + quoted(databaseUrl()));
        if (!properties.outbox().table().equals(DEFAULT_TABLE)) {
            lines.add("table = " + quoted(properties.outbox().table()));
        }
        lines.add("");
    }

    /** The host's URL of the service's database; without a password, which belongs in no log. */
    private String databaseUrl() {
        String jdbc = environment.getProperty("spring.datasource.url", "");
        String user = environment.getProperty("spring.datasource.username", "USER");
        if (jdbc.startsWith("jdbc:sqlite:")) {
            return "sqlite://" + jdbc.substring("jdbc:sqlite:".length());
        }
        if (jdbc.startsWith("jdbc:postgresql://")) {
            String rest = jdbc.substring("jdbc:postgresql://".length());
            return "postgres://" + user + "@" + rest.split("\\?", 2)[0];
        }
        return "postgres://" + user + "@HOST/DATABASE";
    }

    private void binding(List<String> lines, String group, String topic, Map<String, HandlerMethod> types) {
        lines.add("[[binding]]");
        lines.add("group = " + quoted(group));
        lines.add("topics = [" + quoted(topic) + "]");
        lines.add("types = [" + String.join(", ", types.keySet().stream().map(HostConfiguration::quoted).toList())
                + "]");
        lines.add("plugin = \"http-push\"");
        // A service that restarts or is slow for a moment is no reason to give up a message.
        lines.add("[binding.retry]");
        lines.add("max_attempts = " + SHOWN_ATTEMPTS);
        lines.add("[binding.config]");
        lines.add("url = " + quoted(handlersUrl()));
        if (properties.handlers().unsigned()) {
            lines.add("mode = \"structured\"");
        } else {
            lines.add("[binding.secrets]");
            lines.add("signing_key = { env = \"COURIER_SIGNING_KEY\" }");
        }
        lines.add("");
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
