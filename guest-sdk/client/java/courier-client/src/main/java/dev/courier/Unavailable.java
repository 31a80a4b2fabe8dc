package dev.courier;

import java.time.Duration;

/** Something that the handler depends on is down: the binding pauses, tries now and then, and burns no attempt. */
public final class Unavailable extends HandlerFailure {
    /** How long to wait at least; null if the host decides. */
    private final Duration after;

    /**
     * Pauses the binding.
     *
     * @param reason why, for people
     */
    public Unavailable(String reason) {
        this(reason, null, null);
    }

    /**
     * Pauses the binding.
     *
     * @param reason why, for people
     * @param after  how long to wait at least
     */
    public Unavailable(String reason, Duration after) {
        this(reason, after, null);
    }

    /**
     * Pauses the binding.
     *
     * @param reason why, for people
     * @param cause  what led to it
     */
    public Unavailable(String reason, Throwable cause) {
        this(reason, null, cause);
    }

    /**
     * Pauses the binding.
     *
     * @param reason why, for people
     * @param after  how long to wait at least, or null
     * @param cause  what led to it, or null
     */
    public Unavailable(String reason, Duration after, Throwable cause) {
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
