package dev.courier.spring;

import dev.courier.Draft;
import dev.courier.Message;
import dev.courier.OutboxException;
import dev.courier.Publisher;
import dev.courier.Receipt;

/** Publishes by a row of the outbox within a transaction, and over HTTP outside of it. */
final class TransactionalPublisher implements Publisher {
    private final Publisher http;
    private final OutboxWriter outbox;

    /**
     * Publishes both ways.
     *
     * @param http   publishes outside of transactions
     * @param outbox takes the rows; null when there is no DataSource
     */
    TransactionalPublisher(Publisher http, OutboxWriter outbox) {
        this.http = http;
        this.outbox = outbox;
    }

    @Override
    public Draft draft(Message message) {
        return http.draft(message);
    }

    @Override
    public String source() {
        return http.source();
    }

    @Override
    public Receipt send(Draft draft) {
        if (!TransactionPhase.takesRows()) {
            return http.send(draft);
        }
        if (outbox == null) {
            throw new OutboxException(draft + " is published in a transaction, and there is no single DataSource for "
                    + "its row: name one by courier.outbox.data-source, publish outside of the transaction, or set "
                    + "courier.outbox.enabled=false", null);
        }
        outbox.write(draft, source());
        return new Receipt(draft.id(), Receipt.State.IN_TRANSACTION, false);
    }
}
