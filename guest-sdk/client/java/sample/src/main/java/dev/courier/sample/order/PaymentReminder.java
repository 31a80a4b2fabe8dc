package dev.courier.sample.order;

import dev.courier.Event;
import dev.courier.PrimaryKey;
import dev.courier.Topic;
import java.time.Instant;

/** Is published when an order is placed, and arrives when it should have been paid. */
@Topic(name = "reminder")
class PaymentReminder extends Event {
    @PrimaryKey
    private final String orderId;
    private final Instant placedAt;

    PaymentReminder(String orderId, Instant placedAt) {
        this.orderId = orderId;
        this.placedAt = placedAt;
    }
}
