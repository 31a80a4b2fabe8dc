package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Requests of http-push, read without their bodies. */
class CloudEventTest {
    private final ObjectMapper mapper = new ObjectMapper();

    private static CloudEvent event(String json) throws IOException {
        return CloudEvent.one(json.getBytes(StandardCharsets.UTF_8));
    }

    private static String data(String json) throws IOException {
        return new String(event(json).data(), StandardCharsets.UTF_8);
    }

    @Test
    void attributesAreText() throws IOException {
        CloudEvent event = event("""
                {"id": "ä", "courierattempt": 2, "couriertombstone": true, "none": null, "data": {"id": "b"},
                 "price": 10.00, "list": ["x", {"id": "c"}], "last": ""}""");
        assertThat(event.attributes()).isEqualTo(Map.of("id", "ä", "courierattempt", "2", "couriertombstone", "true",
                "price", "10.00", "last", ""));
        assertThat(event.attribute("none")).isNull();
    }

    @Test
    void aBodyIsItsOwnBytes() throws IOException {
        for (String data : List.of("{\"ä\" : [1, {\"b\":2}]}", "[ ]", "\"ö, \\\"}\"", "-1.50e3", "0", "true")) {
            assertThat(data("{\"data\":" + data + "}")).isEqualTo(data);
            assertThat(data("{\"id\":\"ü\", \"data\" : " + data + " , \"x\": 1}")).isEqualTo(data);
        }
        assertThat(event("{\"data\":null}").data(mapper, Object.class)).isNull();
        assertThat(event("{}").data(mapper, Object.class)).isNull();
        assertThat(event("{\"data_base64\":\"eyJhIjoxfQ==\"}").data(mapper, Object.class)).isEqualTo(Map.of("a", 1));
        assertThatThrownBy(() -> event("{\"data_base64\":\"?\"}").data(mapper, Object.class))
                .isInstanceOf(JsonProcessingException.class);
    }

    @Test
    void numbersKeepAllTheirDigits() throws IOException {
        for (String number : List.of("12345678901234567.89", "10.00", "0.10", "1E+2", "12345678901234567890123")) {
            assertThat(event("{\"data\":" + number + "}").data(mapper, BigDecimal.class))
                    .isEqualTo(new BigDecimal(number));
        }
    }

    @Test
    void aBodyThatBreaksALimitFailsAlone() throws IOException {
        String deep = "{\"id\":\"deep\",\"data\":" + "[".repeat(100_000) + "]".repeat(100_000) + "}";
        String digits = "{\"id\":\"digits\",\"data\":" + "1".repeat(5_000) + "}";
        String other = "{\"id\":\"other\",\"data\":{}}";
        List<CloudEvent> events = CloudEvent.batch(("[" + deep + "," + digits + ", " + other + "]")
                .getBytes(StandardCharsets.UTF_8));
        assertThat(events.stream().map(event -> event.attribute("id"))).containsExactly("deep", "digits", "other");
        for (CloudEvent event : events.subList(0, 2)) {
            assertThatThrownBy(() -> event.data(mapper, Object.class)).isInstanceOf(StreamConstraintsException.class);
        }
        assertThat(events.get(2).data(mapper, Object.class)).isEqualTo(Map.of());
    }

    @Test
    void whatIsNoEventIsSaid() {
        for (String wrong : List.of("", "{]", "[]", "1", "{\"data\":{}", "{\"data\":[}", "{\"data\":1x}")) {
            assertThatThrownBy(() -> event(wrong)).isInstanceOf(JsonProcessingException.class);
        }
        for (String wrong : List.of("", "{}", "[1]", "[{}", "[{},")) {
            assertThatThrownBy(() -> CloudEvent.batch(wrong.getBytes(StandardCharsets.UTF_8)))
                    .isInstanceOf(JsonProcessingException.class);
        }
    }
}
