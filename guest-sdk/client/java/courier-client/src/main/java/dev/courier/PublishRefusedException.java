package dev.courier;

/** The host refuses the message, as it would each time: correct the message or the token. Nothing was sent. */
public sealed class PublishRefusedException extends PublishException
        permits MessageConflictException, NotAuthorizedException {
    /** The status of HTTP. */
    private final int status;

    PublishRefusedException(String what, int status, Problem problem) {
        super("the host refuses " + what + " (" + status + ")"
                + (problem == null ? "" : ": " + problem.describe()), problem, null);
        this.status = status;
    }

    /** The exception for a status. */
    static PublishRefusedException of(String what, int status, Problem problem) {
        return switch (status) {
            case 401, 403 -> new NotAuthorizedException(what, status, problem);
            case 409 -> new MessageConflictException(what, status, problem);
            default -> new PublishRefusedException(what, status, problem);
        };
    }

    /**
     * The status of HTTP.
     *
     * @return for example 422
     */
    public int status() {
        return status;
    }
}
