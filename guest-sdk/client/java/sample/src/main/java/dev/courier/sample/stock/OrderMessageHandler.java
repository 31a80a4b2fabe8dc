package dev.courier.sample.stock;

import dev.courier.Reject;
import dev.courier.spring.EventHandler;

/** Keeps reservations as the orders say. */
@EventHandler(topic = "order", consumerGroup = "stock")
class OrderMessageHandler {
    private static final String DISCONTINUED = "typewriter";

    private final Stock stock;

    OrderMessageHandler(Stock stock) {
        this.stock = stock;
    }

    public void handle(OrderCreated order) {
        if (DISCONTINUED.equals(order.article)) {
            throw new Reject("there are no more of " + order.article);
        }
        stock.created(order.orderId);
        stock.reserve(order.orderId, order.quantity, 0);
    }

    public void handle(OrderAmended order) {
        stock.reserve(order.orderId, order.quantity, order.version);
    }
}
