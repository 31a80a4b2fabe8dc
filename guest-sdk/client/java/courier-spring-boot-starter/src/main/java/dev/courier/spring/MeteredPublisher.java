package dev.courier.spring;

import dev.courier.Draft;
import dev.courier.InvalidMessageException;
import dev.courier.Message;
import dev.courier.MessageType;
import dev.courier.OutboxException;
import dev.courier.PublishException;
import dev.courier.PublishRefusedException;
import dev.courier.PublishTimeoutException;
import dev.courier.Publisher;
import dev.courier.Receipt;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.util.Locale;

/** Counts and times what another publisher publishes: {@code courier.publish}. */
final class MeteredPublisher implements Publisher {
    private final Publisher publisher;
    private final MeterRegistry registry;

    MeteredPublisher(Publisher publisher, MeterRegistry registry) {
        this.publisher = publisher;
        this.registry = registry;
    }

    @Override
    public Draft draft(Message message) {
        return publisher.draft(message);
    }

    @Override
    public String source() {
        return publisher.source();
    }

    @Override
    public Receipt send(Draft draft) {
        Timer.Sample sample = Timer.start(registry);
        String outcome = "error";
        try {
            Receipt receipt = publisher.send(draft);
            outcome = receipt.state().name().toLowerCase(Locale.ROOT);
            return receipt;
        } catch (PublishException error) {
            outcome = outcome(error);
            throw error;
        } finally {
            MessageType type = draft.type();
            sample.stop(Timer.builder("courier.publish").description("Messages that were published")
                    .tags("topic", type.topic(), "type", type.name(), "outcome", outcome).register(registry));
        }
    }

    private static String outcome(PublishException error) {
        if (error instanceof InvalidMessageException) {
            return "invalid";
        } else if (error instanceof PublishRefusedException) {
            return "refused";
        } else if (error instanceof PublishTimeoutException) {
            return "timeout";
        } else {
            return error instanceof OutboxException ? "outbox" : "error";
        }
    }
}
