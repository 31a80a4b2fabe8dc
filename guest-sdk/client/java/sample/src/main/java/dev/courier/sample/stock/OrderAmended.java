package dev.courier.sample.stock;

import dev.courier.Event;
import dev.courier.Topic;

@Topic(name = "order")
class OrderAmended extends Event {
    String orderId;
    int quantity;
    int version;
}
