package dev.courier.spring;

import java.util.Map;

/**
 * What a handler may want to know of the delivery that it handles.
 *
 * @param id       the delivery; the same over all attempts, so that a handler can tell a repetition
 * @param attempt  counts invocations from 1
 * @param group    the consumer group
 * @param metadata all attributes of the CloudEvent that are text or numbers, with those of the sender's own
 */
public record Delivery(String id, int attempt, String group, Map<String, String> metadata) {
}
