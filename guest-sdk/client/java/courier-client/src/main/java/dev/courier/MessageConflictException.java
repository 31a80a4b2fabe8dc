package dev.courier;

/** Another message of this topic and service has the same id (409). Nothing was sent. */
public final class MessageConflictException extends PublishRefusedException {
    MessageConflictException(String what, int status, Problem problem) {
        super(what, status, problem);
    }
}
