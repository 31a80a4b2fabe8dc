package dev.courier.spring;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.exc.MismatchedInputException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A structured CloudEvent whose body has not been read yet.
 *
 * <p>The body is read by itself, from its own bytes: one that breaks a limit of the service's mapper then fails alone
 * and not with all events of its request, and numbers are what the mapper makes of their digits.
 *
 * @param attributes all attributes that are text, numbers or booleans, as text
 * @param data       the JSON of the body; null if there is none
 * @param isBase64   whether that is a text in base64
 */
record CloudEvent(Map<String, String> attributes, byte[] data, boolean isBase64) {
    private static final String DATA = "data";
    private static final String DATA_BASE64 = "data_base64";

    /** Without limits: the request has been read, and no part of it decides about the rest. */
    private static final JsonFactory JSON = JsonFactory.builder()
            .disable(JsonFactory.Feature.CHARSET_DETECTION)
            .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
            .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW)
            .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(Integer.MAX_VALUE)
                    .maxNumberLength(Integer.MAX_VALUE).maxStringLength(Integer.MAX_VALUE)
                    .maxNameLength(Integer.MAX_VALUE).build())
            .build();

    /** Reads a request of one event. */
    static CloudEvent one(byte[] request) throws IOException {
        try (JsonParser parser = JSON.createParser(request)) {
            parser.nextToken();
            return next(parser, request);
        }
    }

    /** Reads a request of several events. */
    static List<CloudEvent> batch(byte[] request) throws IOException {
        try (JsonParser parser = JSON.createParser(request)) {
            if (parser.nextToken() != JsonToken.START_ARRAY) {
                throw MismatchedInputException.from(parser, List.class, "it is no array");
            }
            List<CloudEvent> events = new ArrayList<>();
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                events.add(next(parser, request));
            }
            return events;
        }
    }

    private static CloudEvent next(JsonParser parser, byte[] request) throws IOException {
        if (parser.currentToken() != JsonToken.START_OBJECT) {
            throw MismatchedInputException.from(parser, CloudEvent.class, "an event is no object");
        }
        Map<String, String> attributes = new LinkedHashMap<>();
        byte[] data = null;
        boolean isBase64 = false;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            JsonToken value = parser.nextToken();
            if (name.equals(DATA) || name.equals(DATA_BASE64)) {
                byte[] bytes = bytes(parser, request);
                if (value != JsonToken.VALUE_NULL) {
                    data = bytes;
                    isBase64 = name.equals(DATA_BASE64);
                }
            } else if (value.isScalarValue() && value != JsonToken.VALUE_NULL) {
                attributes.put(name, parser.getText());
            } else {
                parser.skipChildren();
            }
        }
        return new CloudEvent(attributes, data, isBase64);
    }

    /** The bytes of the value that begins here. */
    private static byte[] bytes(JsonParser parser, byte[] request) throws IOException {
        int begin = Math.toIntExact(parser.currentTokenLocation().getByteOffset());
        parser.skipChildren();
        // Reads a text or number to its end.
        parser.finishToken();
        return Arrays.copyOfRange(request, begin, Math.toIntExact(parser.currentLocation().getByteOffset()));
    }

    /** An attribute; null if the event does not have it. */
    String attribute(String name) {
        return attributes.get(name);
    }

    /** The body as an object; null if the event has none. */
    <T> T data(ObjectMapper mapper, Class<T> type) throws IOException {
        if (data == null) {
            return null;
        }
        return mapper.readValue(isBase64 ? mapper.readValue(data, byte[].class) : data, type);
    }
}
