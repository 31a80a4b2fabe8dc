package dev.courier.sample.order;

import dev.courier.Event;
import dev.courier.PrimaryKey;
import dev.courier.Topic;

@Topic(name = "order")
class OrderCreated extends Event {
    @PrimaryKey
    private final String orderId;
    private final String article;
    private final int quantity;

    OrderCreated(Order order) {
        orderId = order.id();
        article = order.article();
        quantity = order.quantity();
    }
}
