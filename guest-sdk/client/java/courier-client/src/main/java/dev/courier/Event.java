package dev.courier;

/** A message that each consumer group handles once. */
public abstract non-sealed class Event extends Message {
    /** An event that was not published yet. */
    protected Event() {
    }
}
