package dev.courier.sample.price;

import dev.courier.Broadcast;
import dev.courier.Topic;

@Topic(name = "price")
class PriceChanged extends Broadcast {
    String article;
    long cents;
}
