package dev.courier.sample.order;

import dev.courier.Broadcast;
import dev.courier.Topic;

/** Reaches every instance that keeps prices. */
@Topic(name = "price")
class PriceChanged extends Broadcast {
    private final String article;
    private final long cents;

    PriceChanged(String article, long cents) {
        this.article = article;
        this.cents = cents;
    }
}
