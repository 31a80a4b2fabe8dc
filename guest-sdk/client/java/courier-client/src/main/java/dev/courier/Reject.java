package dev.courier;

/** The message can never be handled: no further attempt. */
public final class Reject extends HandlerFailure {
    /**
     * Rejects the message.
     *
     * @param reason why, for people
     */
    public Reject(String reason) {
        super(reason, null);
    }

    /**
     * Rejects the message.
     *
     * @param reason why, for people
     * @param cause  what led to it
     */
    public Reject(String reason, Throwable cause) {
        super(reason, cause);
    }
}
