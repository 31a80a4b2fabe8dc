package dev.courier;

/**
 * The answer to a message that was taken: it is durable, or will be with the transaction.
 *
 * @param id       the message's id, to ask for what became of it
 * @param state    where it is
 * @param retrying whether the host goes on trying by itself, because Kafka is away; there is nothing to do
 */
public record Receipt(String id, State state, boolean retrying) {
    /** Where a message is that was taken. */
    public enum State {
        /** Kafka has it, or the host until it is due. */
        COMMITTED,
        /** The host has it and could not give it to Kafka yet. */
        SEND_FAIL,
        /** It is a row of the outbox, and exists if and only if the transaction commits. */
        IN_TRANSACTION
    }
}
