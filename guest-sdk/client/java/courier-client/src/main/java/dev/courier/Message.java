package dev.courier;

import com.fasterxml.jackson.annotation.JsonAutoDetect;
import com.fasterxml.jackson.annotation.JsonAutoDetect.Visibility;

/**
 * What all messages have in common: a header, and a body that consists of the fields of the class.
 *
 * <p>The body's JSON has the class's fields, whatever their visibility, and nothing of its methods. A class extends
 * {@link Event} or {@link Broadcast} and has a {@link Topic}.
 */
@JsonAutoDetect(
        fieldVisibility = Visibility.ANY,
        getterVisibility = Visibility.NONE,
        isGetterVisibility = Visibility.NONE,
        setterVisibility = Visibility.NONE)
public abstract sealed class Message permits Event, Broadcast {
    // Transient, so that it is no part of the body.
    private transient MessageHeader courierHeader;

    /** A message that has no header yet. */
    protected Message() {
    }

    /**
     * The message's header.
     *
     * @return null before the message was published or received
     */
    public final MessageHeader header() {
        return courierHeader;
    }

    /**
     * Sets the header of a message that was published or received. Services have no need to call it.
     *
     * @param header the header
     */
    public final void courierHeader(MessageHeader header) {
        courierHeader = header;
    }
}
