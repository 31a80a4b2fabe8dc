package dev.courier;

/** The token is missing, unknown or may not do this (401, 403): see {@code courier.token}. Nothing was sent. */
public final class NotAuthorizedException extends PublishRefusedException {
    NotAuthorizedException(String what, int status, Problem problem) {
        super(what, status, problem);
    }
}
