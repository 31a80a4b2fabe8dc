package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** An IDE knows each setting, with a description. */
class MetadataTest {
    @Test
    void eachSettingIsDescribed() throws IOException {
        JsonNode metadata;
        try (InputStream in = getClass().getResourceAsStream("/META-INF/spring-configuration-metadata.json")) {
            metadata = new ObjectMapper().readTree(in);
        }
        List<String> names = new ArrayList<>();
        for (JsonNode property : metadata.get("properties")) {
            String name = property.get("name").asText();
            assertThat(property.path("description").asText()).as(name).isNotBlank();
            if (name.startsWith("courier.")) {
                names.add(name);
            }
        }
        assertThat(names).containsExactlyInAnyOrder("courier.connect-timeout", "courier.source", "courier.timeout",
                "courier.token", "courier.try-timeout", "courier.url", "courier.outbox.data-source",
                "courier.outbox.enabled", "courier.outbox.initialize-schema", "courier.outbox.table",
                "courier.handlers.max-body", "courier.handlers.path", "courier.handlers.previous-signing-key",
                "courier.handlers.signing-key", "courier.handlers.tolerance", "courier.handlers.unsigned",
                "courier.handlers.url");
        assertThat(metadata.get("hints").findValuesAsText("name")).contains("courier.outbox.data-source");
    }
}
