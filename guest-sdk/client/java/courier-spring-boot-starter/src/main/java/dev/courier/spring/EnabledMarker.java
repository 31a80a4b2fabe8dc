package dev.courier.spring;

/** The bean by which the auto-configuration knows that the application has {@link EnableMessage}. */
final class EnabledMarker {
}
