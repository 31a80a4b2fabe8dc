package dev.courier;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;

/**
 * A message that is about to be sent. It has an id of its own, so it can be sent any number of times and is one
 * message: a host that knows the id answers as it did before.
 */
public final class Draft {
    private final String id;
    private final MessageType type;
    private final String key;
    private final String body;
    private final Map<String, List<String>> headers;
    private final Duration delay;
    private final Instant deliverAt;

    private Draft(String id, MessageType type, String key, String body, Map<String, List<String>> headers,
            Duration delay, Instant deliverAt) {
        this.id = id;
        this.type = type;
        this.key = key;
        this.body = body;
        this.headers = headers;
        this.delay = delay;
        this.deliverAt = deliverAt;
    }

    /**
     * A draft with a new id.
     *
     * @param type what kind of message it is
     * @param key  the primary key, or null
     * @param body the body, as JSON
     */
    public Draft(MessageType type, String key, String body) {
        this(UUID.randomUUID().toString(), Objects.requireNonNull(type, "type"), key,
                Objects.requireNonNull(body, "body"), Map.of(), null, null);
    }

    /**
     * The same draft with an id of the service's own, such as that of the order it is about: a service that forgot
     * whether it sent the message may then send it again.
     *
     * @param id the id
     * @return a changed copy
     */
    public Draft withId(String id) {
        return new Draft(Objects.requireNonNull(id, "id"), type, key, body, headers, delay, deliverAt);
    }

    /**
     * The same draft with a further header.
     *
     * @param name  the header's name
     * @param value its value
     * @return a changed copy
     */
    public Draft withHeader(String name, String value) {
        Map<String, List<String>> more = new LinkedHashMap<>(headers);
        List<String> values = new ArrayList<>(more.getOrDefault(name, List.of()));
        values.add(Objects.requireNonNull(value, name));
        more.put(Objects.requireNonNull(name, "name"), List.copyOf(values));
        return new Draft(id, type, key, body, Collections.unmodifiableMap(more), delay, deliverAt);
    }

    /**
     * The same draft, delivered no sooner than this long after it was taken.
     *
     * @param delay how long
     * @return a changed copy
     */
    public Draft after(Duration delay) {
        if (delay.isNegative()) {
            throw new InvalidMessageException("the delay " + delay + " is negative");
        }
        return new Draft(id, type, key, body, headers, delay, null);
    }

    /**
     * The same draft, delivered no sooner than at a time.
     *
     * @param time when
     * @return a changed copy
     */
    public Draft at(Instant time) {
        return new Draft(id, type, key, body, headers, null, Objects.requireNonNull(time, "time"));
    }

    /**
     * The message's id.
     *
     * @return the id
     */
    public String id() {
        return id;
    }

    /**
     * The message's topic and type.
     *
     * @return what its class says
     */
    public MessageType type() {
        return type;
    }

    /**
     * The primary key.
     *
     * @return null without a key
     */
    public String key() {
        return key;
    }

    /**
     * The body.
     *
     * @return JSON
     */
    public String body() {
        return body;
    }

    /**
     * The headers, by name.
     *
     * @return each with its values
     */
    public Map<String, List<String>> headers() {
        return headers;
    }

    /**
     * How long it is held back.
     *
     * @return null without a delay
     */
    public Duration delay() {
        return delay;
    }

    /**
     * When it is delivered at the earliest.
     *
     * @return null without such a time
     */
    public Instant deliverAt() {
        return deliverAt;
    }

    @Override
    public String toString() {
        return type.name() + " " + id + " for " + type.topic();
    }
}
