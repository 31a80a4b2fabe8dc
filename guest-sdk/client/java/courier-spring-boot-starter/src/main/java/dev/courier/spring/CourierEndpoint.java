package dev.courier.spring;

import dev.courier.Publisher;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.springframework.boot.actuate.endpoint.annotation.Endpoint;
import org.springframework.boot.actuate.endpoint.annotation.ReadOperation;

/** Shows at {@code /actuator/courier} how this service sends and handles messages. It shows no secret. */
@Endpoint(id = "courier")
public final class CourierEndpoint {
    private final Publisher publisher;
    private final CourierProperties properties;
    private final HandlerRegistry registry;
    private final HostConfiguration host;

    CourierEndpoint(Publisher publisher, CourierProperties properties, HandlerRegistry registry,
            HostConfiguration host) {
        this.publisher = publisher;
        this.properties = properties;
        this.registry = registry;
        this.host = host;
    }

    /**
     * How this service sends and handles messages.
     *
     * @return the host, the name of this service, its outbox, its handlers and the TOML that the host needs
     */
    @ReadOperation
    public Map<String, Object> courier() {
        Map<String, Object> shown = new LinkedHashMap<>();
        shown.put("host", properties.url());
        shown.put("source", String.valueOf(publisher.source()));
        if (host.hasOutbox()) {
            shown.put("outbox", Map.of("table", properties.outbox().table()));
        }
        if (registry.hasHandlers()) {
            shown.put("url", host.handlersUrl());
        }
        shown.put("handlers", handlers());
        shown.put("toml", host.toml());
        return shown;
    }

    private List<Map<String, Object>> handlers() {
        List<Map<String, Object>> shown = new java.util.ArrayList<>();
        registry.all().forEach((group, topics) -> topics.forEach((topic, types) -> types.forEach((type, method) ->
                shown.add(Map.of("group", group, "topic", topic, "type", type, "method", method.describe())))));
        return shown;
    }
}
