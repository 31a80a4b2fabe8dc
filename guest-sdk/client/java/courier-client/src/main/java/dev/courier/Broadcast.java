package dev.courier;

/** A message that every node of each consumer group handles, to refresh a cache for example. */
public abstract non-sealed class Broadcast extends Message {
    /** A broadcast that was not published yet. */
    protected Broadcast() {
    }
}
