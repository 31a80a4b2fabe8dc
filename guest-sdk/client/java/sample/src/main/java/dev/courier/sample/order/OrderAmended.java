package dev.courier.sample.order;

import dev.courier.Event;
import dev.courier.PrimaryKey;
import dev.courier.Topic;

/** Has the same key as the order's other events, so that changes are handled in their order. */
@Topic(name = "order")
class OrderAmended extends Event {
    @PrimaryKey
    private final String orderId;
    private final int quantity;
    private final int version;

    OrderAmended(Order order) {
        orderId = order.id();
        quantity = order.quantity();
        version = order.version();
    }
}
