package dev.courier;

import java.time.Duration;
import java.time.Instant;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Publishes messages from anywhere in a service, by static methods. Spring's starter sets it up; a service without
 * Spring calls {@link #use} once.
 */
public final class EventPublisher {
    private static final AtomicReference<Publisher> PUBLISHER = new AtomicReference<>();

    private EventPublisher() {
    }

    /**
     * Publishes a message. In a transaction (with Spring's starter) it exists if and only if that commits.
     *
     * @param message the message
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    public static Receipt publish(Message message) {
        return publisher().publish(message);
    }

    /**
     * Publishes a message that is delivered no sooner than after a delay.
     *
     * @param message the message
     * @param delay   how long
     * @param unit    the delay's unit
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    public static Receipt publish(Message message, long delay, TimeUnit unit) {
        return publish(message, Duration.of(delay, unit.toChronoUnit()));
    }

    /**
     * Publishes a message that is delivered no sooner than after a delay.
     *
     * @param message the message
     * @param delay   how long
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    public static Receipt publish(Message message, Duration delay) {
        return publisher().publish(message, delay);
    }

    /**
     * Publishes a message that is delivered no sooner than at a time.
     *
     * @param message the message
     * @param time    when
     * @return where it is now
     * @throws PublishException what the sender can do about it
     */
    public static Receipt publishAt(Message message, Instant time) {
        return publisher().publishAt(message, time);
    }

    /**
     * What the static methods publish with.
     *
     * @return the publisher
     * @throws IllegalStateException when nobody set one
     */
    public static Publisher publisher() {
        Publisher publisher = PUBLISHER.get();
        if (publisher == null) {
            throw new IllegalStateException("EventPublisher has no publisher: add @EnableMessage to the Spring Boot "
                    + "application and publish once it has started, or call EventPublisher.use(..)");
        }
        return publisher;
    }

    /**
     * Sets what the static methods publish with. The last one that was set holds for the whole process.
     *
     * @param publisher for example a {@link CourierClient}
     */
    public static void use(Publisher publisher) {
        PUBLISHER.set(Objects.requireNonNull(publisher, "publisher"));
    }

    /**
     * Takes a publisher out of use, unless another one was set since.
     *
     * @param publisher what {@link #use} was called with
     */
    public static void release(Publisher publisher) {
        PUBLISHER.compareAndSet(publisher, null);
    }
}
