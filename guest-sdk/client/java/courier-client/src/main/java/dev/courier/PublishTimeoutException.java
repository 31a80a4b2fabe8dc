package dev.courier;

/**
 * No host took the message for certain in time. It may have been taken, since an answer can be lost: send
 * {@link #draft()} again, which cannot double it.
 */
public final class PublishTimeoutException extends PublishException {
    private final transient Draft draft;
    /** How often it was tried. */
    private final int tries;

    PublishTimeoutException(Draft draft, int tries, String why, Problem problem, Throwable cause) {
        super("gave up on " + draft + " after " + tries + (tries == 1 ? " try: " : " tries: ") + why, problem, cause);
        this.draft = draft;
        this.tries = tries;
    }

    /**
     * The message, with its id.
     *
     * @return what to send again
     */
    public Draft draft() {
        return draft;
    }

    /**
     * How often it was tried.
     *
     * @return at least 1
     */
    public int tries() {
        return tries;
    }
}
