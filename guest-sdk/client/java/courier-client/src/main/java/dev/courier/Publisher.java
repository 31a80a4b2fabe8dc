package dev.courier;

import java.time.Duration;
import java.time.Instant;

/** Publishes messages. */
public interface Publisher {
    /**
     * The message of an object, with a new id.
     *
     * @param message the object
     * @return what to {@link #send}, with more headers for example
     * @throws InvalidMessageException when its class or its fields are wrong
     */
    Draft draft(Message message);

    /**
     * Sends a draft. It can be sent again after any exception: it is one message by its id.
     *
     * @param draft the message
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    Receipt send(Draft draft);

    /**
     * The name of the sending service.
     *
     * @return null if it has none
     */
    String source();

    /**
     * Publishes a message.
     *
     * @param message the object
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    default Receipt publish(Message message) {
        return publish(message, draft(message));
    }

    /**
     * Publishes a message that is delivered no sooner than after a delay.
     *
     * @param message the object
     * @param delay   how long
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    default Receipt publish(Message message, Duration delay) {
        return publish(message, draft(message).after(delay));
    }

    /**
     * Publishes a message that is delivered no sooner than at a time.
     *
     * @param message the object
     * @param time    when
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    default Receipt publishAt(Message message, Instant time) {
        return publish(message, draft(message).at(time));
    }

    private Receipt publish(Message message, Draft draft) {
        MessageType type = draft.type();
        message.courierHeader(new MessageHeader(draft.id(), draft.key(), source(), type.topic(), Instant.now()));
        return send(draft);
    }
}
