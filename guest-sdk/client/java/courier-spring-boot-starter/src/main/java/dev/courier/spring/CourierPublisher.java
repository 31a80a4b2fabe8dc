package dev.courier.spring;

import dev.courier.Draft;
import dev.courier.EventPublisher;
import dev.courier.Message;
import dev.courier.Publisher;
import dev.courier.Receipt;
import org.springframework.beans.factory.DisposableBean;

/**
 * The application's publisher, to be injected where a static method is in the way. It is what {@link EventPublisher}
 * publishes with until the application ends.
 */
public final class CourierPublisher implements Publisher, DisposableBean {
    private final Publisher publisher;

    CourierPublisher(Publisher publisher) {
        this.publisher = publisher;
        EventPublisher.use(this);
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
        return publisher.send(draft);
    }

    @Override
    public void destroy() {
        EventPublisher.release(this);
    }
}
