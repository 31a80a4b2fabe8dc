/**
 * Publishes messages through Courier, and names what senders and handlers share.
 *
 * <p>{@link dev.courier.EventPublisher} is the one line that a service writes; {@link dev.courier.CourierClient} is
 * what stands behind it, and {@link dev.courier.Outbox} its way within a JDBC transaction. Nothing here needs Spring.
 */
package dev.courier;
