package dev.courier;

/** The message or what was said of it is wrong: correct it. Nothing was sent. */
public final class InvalidMessageException extends PublishException {
    /**
     * A message that is wrong.
     *
     * @param message what is wrong, and what would be right
     */
    public InvalidMessageException(String message) {
        super(message, null, null);
    }

    /**
     * A message that is wrong.
     *
     * @param message what is wrong, and what would be right
     * @param cause   who found out
     */
    public InvalidMessageException(String message, Throwable cause) {
        super(message, null, cause);
    }
}
