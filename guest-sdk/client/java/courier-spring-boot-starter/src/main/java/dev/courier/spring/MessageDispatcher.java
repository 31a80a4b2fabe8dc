package dev.courier.spring;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.courier.Message;
import dev.courier.MessageHeader;
import java.io.IOException;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.Map;
import java.util.function.BooleanSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.BeanFactory;

/** Calls the handler of a message that came as a CloudEvent, and says what became of it. */
final class MessageDispatcher {
    private static final Logger LOG = LoggerFactory.getLogger(MessageDispatcher.class);

    /** CloudEvents need a source, and this is the one of a message that names none. */
    private static final String UNKNOWN_SOURCE = "/";

    /** Hears of each message that a handler was called for. */
    interface Listener {
        /** A call has ended. */
        void called(String group, HandlerMethod method, String verdict, Duration took);
    }

    private final HandlerRegistry registry;
    private final BeanFactory beans;
    private final ObjectMapper mapper;
    private final Listener listener;
    private final BooleanSupplier stopping;

    /**
     * A dispatcher.
     *
     * @param registry knows the handlers
     * @param beans    has them
     * @param mapper   reads bodies
     * @param listener is told of each call of a handler
     * @param stopping whether the application is being stopped
     */
    MessageDispatcher(HandlerRegistry registry, BeanFactory beans, ObjectMapper mapper, Listener listener,
            BooleanSupplier stopping) {
        this.stopping = stopping;
        this.registry = registry;
        this.beans = beans;
        this.mapper = mapper;
        this.listener = listener;
    }

    Answer dispatch(CloudEvent event) {
        String group = event.attribute("couriergroup");
        String topic = event.attribute("couriertopic");
        String type = event.attribute("type");
        if (group == null || topic == null || type == null) {
            return Answer.unavailable(400, "the body is no CloudEvent of http-push: it names no couriergroup, "
                    + "couriertopic or type");
        }
        Map<String, Map<String, HandlerMethod>> topics = registry.group(group);
        if (topics == null || !topics.containsKey(topic)) {
            // An older version of the service may run beside the one that knows it.
            return Answer.unavailable(404, "this service has no @EventHandler(topic = \"" + topic
                    + "\", consumerGroup = \"" + group + "\")");
        }
        HandlerMethod method = topics.get(topic).get(type);
        if (method == null) {
            // The same: the next version may have the class, and another attempt may meet that.
            return Answer.retry("no method of the group " + group + " handles the type " + type + " of the topic "
                    + topic + ", only " + String.join(", ", topics.get(topic).keySet()) + ": add a method handle that "
                    + "takes a class with @Topic(name = \"" + topic + "\", type = \"" + type + "\"), or leave the type "
                    + "out of the binding's `types`");
        }
        Message message;
        try {
            message = event.data(mapper, method.message());
        } catch (IOException | IllegalArgumentException error) {
            return Answer.reject("the body is no " + method.message().getSimpleName() + ": " + first(error));
        }
        if (message == null) {
            return Answer.reject("the message has no body");
        }
        message.courierHeader(header(event, topic));
        return call(group, method, message, delivery(event, group));
    }

    private Answer call(String group, HandlerMethod method, Message message, Delivery delivery) {
        long begun = System.nanoTime();
        Answer answer;
        try {
            method.call(beans, message, delivery);
            answer = Answer.HANDLED;
        } catch (Throwable thrown) {
            // Also an Error: the host is told of it, and the thread goes on with other requests.
            answer = Answer.thrown(thrown, method.owner());
            if (stopping.getAsBoolean() && answer.verdict().equals(Answer.ERROR)) {
                // Connections and pools are being closed: that says nothing of the message.
                answer = Answer.unavailable(503, "this service was being stopped: " + answer.reason());
            }
            LOG.warn("{} failed with {} on message {} (delivery {}, attempt {})", method.describe(), answer.verdict(),
                    message.header().id(), delivery.id(), delivery.attempt(), thrown);
        }
        listener.called(group, method, answer.verdict(), Duration.ofNanos(System.nanoTime() - begun));
        return answer;
    }

    private static MessageHeader header(CloudEvent event, String topic) {
        Instant time = null;
        try {
            String text = event.attribute("time");
            time = text == null ? null : OffsetDateTime.parse(text).toInstant();
        } catch (DateTimeException foreign) {
            LOG.debug("time of a foreign message passed over: {}", foreign.getMessage());
        }
        String source = event.attribute("source");
        String service = UNKNOWN_SOURCE.equals(source) ? null : source;
        return new MessageHeader(event.attribute("id"), event.attribute("partitionkey"), service, topic, time);
    }

    private static Delivery delivery(CloudEvent event, String group) {
        String attempt = event.attributes().getOrDefault("courierattempt", "1");
        return new Delivery(event.attributes().getOrDefault("courierdelivery", ""),
                attempt.matches("\\d{1,9}") ? Integer.parseInt(attempt) : 1, group, Map.copyOf(event.attributes()));
    }

    private static String first(Exception error) {
        String words = error instanceof JsonProcessingException json ? json.getOriginalMessage() : error.getMessage();
        return words == null ? error.getClass().getSimpleName() : words.lines().findFirst().orElse("");
    }
}
