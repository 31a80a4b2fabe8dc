package dev.courier.sample.stock;

import dev.courier.Event;
import dev.courier.Topic;

/** What this service wants to know of a new order; it shares no class with the order service. */
@Topic(name = "order")
class OrderCreated extends Event {
    String orderId;
    String article;
    int quantity;
}
