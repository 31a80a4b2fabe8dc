package dev.courier;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.util.RawValue;
import com.fasterxml.jackson.datatype.jdk8.Jdk8Module;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import java.time.Duration;
import java.time.Instant;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.util.List;
import java.util.Map;

/** Writes messages as JSON: their bodies, and the requests that carry them. */
final class MessageJson {
    private static final long NANOS_PER_MICRO = 1_000;
    private static final int MICRO_DIGITS = 6;
    private static final DateTimeFormatter RFC_3339 =
            new DateTimeFormatterBuilder().appendInstant(MICRO_DIGITS).toFormatter();

    private MessageJson() {
    }

    /** The mapper of a service that has none of its own: times as RFC 3339, unknown fields passed over. */
    static ObjectMapper defaultMapper() {
        return JsonMapper.builder()
                .addModule(new JavaTimeModule())
                .addModule(new Jdk8Module())
                .disable(SerializationFeature.WRITE_DATES_AS_TIMESTAMPS)
                .disable(SerializationFeature.WRITE_DURATIONS_AS_TIMESTAMPS)
                .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
                .build();
    }

    /** The draft of an object. */
    static Draft draft(ObjectMapper mapper, Message message) {
        MessageType type = MessageType.of(message.getClass());
        String key = MessageType.keyOf(message);
        try {
            // An event that has no fields says by its type what happened.
            String body = mapper.writer().without(SerializationFeature.FAIL_ON_EMPTY_BEANS)
                    .without(SerializationFeature.INDENT_OUTPUT).writeValueAsString(message);
            return new Draft(type, key, body);
        } catch (JsonProcessingException error) {
            throw new InvalidMessageException(
                    message.getClass().getName() + " cannot be written as JSON: " + error.getOriginalMessage(), error);
        }
    }

    /** The body of {@code POST /v1/messages}. */
    static String request(ObjectMapper mapper, Draft draft, String source) {
        ObjectNode json = mapper.createObjectNode();
        json.put("id", draft.id());
        json.put("topic", draft.type().topic());
        json.put("type", draft.type().name());
        if (draft.key() != null) {
            json.put("key", draft.key());
        }
        if (source != null) {
            json.put("source", source);
        }
        if (draft.type().broadcast()) {
            json.put("kind", "broadcast");
        }
        if (draft.delay() != null) {
            json.put("delay", millisRoundedUp(draft.delay()) + "ms");
        }
        if (draft.deliverAt() != null) {
            json.put("deliver_at", rfc3339RoundedUp(draft.deliverAt()));
        }
        if (!draft.headers().isEmpty()) {
            json.set("headers", headers(mapper, draft));
        }
        json.putRawValue("body", new RawValue(draft.body()));
        try {
            return mapper.writeValueAsString(json);
        } catch (JsonProcessingException error) {
            throw new InvalidMessageException("the message cannot be written as JSON: " + error.getMessage(), error);
        }
    }

    /** The headers as one JSON object; a name that repeats has an array. */
    static ObjectNode headers(ObjectMapper mapper, Draft draft) {
        ObjectNode json = mapper.createObjectNode();
        for (Map.Entry<String, List<String>> header : draft.headers().entrySet()) {
            List<String> values = header.getValue();
            if (values.size() == 1) {
                json.put(header.getKey(), values.get(0));
            } else {
                ArrayNode array = json.putArray(header.getKey());
                values.forEach(array::add);
            }
        }
        return json;
    }

    /** Whole milliseconds, rounded up so that nothing is early. */
    static long millisRoundedUp(Duration delay) {
        long millis = delay.toMillis();
        return Duration.ofMillis(millis).equals(delay) ? millis : millis + 1;
    }

    /** Whole microseconds, rounded up so that nothing is early. */
    static String rfc3339RoundedUp(Instant time) {
        long over = time.getNano() % NANOS_PER_MICRO;
        return RFC_3339.format(over == 0 ? time : time.plusNanos(NANOS_PER_MICRO - over));
    }
}
