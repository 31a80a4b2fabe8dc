package dev.courier.sample.stock;

import dev.courier.spring.EventHandler;
import java.time.Duration;
import java.time.Instant;

/** Notes which orders should have been paid by now. */
@EventHandler(topic = "reminder", consumerGroup = "payment")
class ReminderHandler {
    private final Stock stock;

    ReminderHandler(Stock stock) {
        this.stock = stock;
    }

    public void handle(PaymentReminder reminder) {
        stock.reminded(reminder.orderId, Duration.between(reminder.placedAt, Instant.now()));
    }
}
