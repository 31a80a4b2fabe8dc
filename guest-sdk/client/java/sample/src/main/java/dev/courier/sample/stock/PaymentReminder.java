package dev.courier.sample.stock;

import dev.courier.Event;
import dev.courier.Topic;
import java.time.Instant;

@Topic(name = "reminder")
class PaymentReminder extends Event {
    String orderId;
    Instant placedAt;
}
