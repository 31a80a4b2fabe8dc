package dev.courier;

import java.time.Duration;

/** The message is worth another attempt, on the binding's schedule or after a wait. */
public final class Retry extends HandlerFailure {
    /** How long to wait at least; null if the host decides. */
    private final Duration after;

    /**
     * Asks for another attempt.
     *
     * @param reason why, for people
     */
    public Retry(String reason) {
        this(reason, null, null);
    }

    /**
     * Asks for another attempt.
     *
     * @param reason why, for people
     * @param after  how long to wait at least
     */
    public Retry(String reason, Duration after) {
        this(reason, after, null);
    }

    /**
     * Asks for another attempt.
     *
     * @param reason why, for people
     * @param cause  what led to it
     */
    public Retry(String reason, Throwable cause) {
        this(reason, null, cause);
    }

    /**
     * Asks for another attempt.
     *
     * @param reason why, for people
     * @param after  how long to wait at least, or null
     * @param cause  what led to it, or null
     */
    public Retry(String reason, Duration after, Throwable cause) {
        super(reason, cause);
        this.after = after;
    }

    /**
     * How long to wait at least.
     *
     * @return null if the host decides
     */
    public Duration after() {
        return after;
    }
}
