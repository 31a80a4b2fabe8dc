package dev.courier;

/** What a handler throws to say more than that it failed. Any other exception lets the binding's policy decide. */
public abstract sealed class HandlerFailure extends RuntimeException permits Retry, Reject, Unavailable {
    HandlerFailure(String reason, Throwable cause) {
        super(reason, cause);
    }
}
