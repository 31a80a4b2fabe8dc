package dev.courier;

/** The row could not be written into the outbox. The transaction is the sender's to roll back. */
public final class OutboxException extends PublishException {
    /**
     * A row that was not written.
     *
     * @param message why, and what would be right
     * @param cause   what the database says, or null
     */
    public OutboxException(String message, Throwable cause) {
        super(message, null, cause);
    }
}
