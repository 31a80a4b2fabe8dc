package dev.courier;

/** A message was not published. The subclass says what the sender can do. */
public abstract sealed class PublishException extends RuntimeException
        permits InvalidMessageException, PublishRefusedException, PublishTimeoutException, OutboxException {
    private final transient Problem problem;

    PublishException(String message, Problem problem, Throwable cause) {
        super(message, cause);
        this.problem = problem;
    }

    /**
     * The problem document that the host answered.
     *
     * @return null when no host answered with one
     */
    public Problem problem() {
        return problem;
    }
}
