package dev.courier;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

/**
 * A problem document as in RFC 9457.
 *
 * @param type   names the kind of problem; null if it did not say
 * @param title  what is wrong, in short
 * @param status the status of HTTP
 * @param detail what is wrong, where, and what would be right; null if it did not say
 * @param json   the whole document
 */
public record Problem(String type, String title, int status, String detail, JsonNode json) {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** The problem that a body describes; null if it describes none. */
    static Problem parse(int status, String body) {
        try {
            JsonNode json = JSON.readTree(body);
            return json != null && json.hasNonNull("title") ? of(status, json) : null;
        } catch (JsonProcessingException notJson) {
            return null;
        }
    }

    static Problem of(int status, JsonNode json) {
        return new Problem(json.path("type").asText(null), json.path("title").asText("unknown problem"),
                json.path("status").asInt(status), json.path("detail").asText(null), json);
    }

    /**
     * The title and the detail.
     *
     * @return a line for people
     */
    public String describe() {
        return detail == null ? title : title + ": " + detail;
    }
}
