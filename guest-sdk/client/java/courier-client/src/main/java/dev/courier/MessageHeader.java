package dev.courier;

import java.time.Instant;

/**
 * What Courier knows of a message beside its body.
 *
 * @param id         tells the message from others of its topic and service
 * @param primaryKey messages of one topic with the same key are handled in order; null without a key
 * @param service    the service that published it; null if it did not say
 * @param topic      the topic it is published on
 * @param timeStamp  when it was published
 */
public record MessageHeader(String id, String primaryKey, String service, String topic, Instant timeStamp) {
}
