package dev.courier.sample.price;

import dev.courier.spring.EventHandler;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The prices of this instance. */
@EventHandler(topic = "price", consumerGroup = "price-cache")
public class Prices {
    private final Map<String, Long> cents = new ConcurrentHashMap<>();

    /**
     * Takes a new price.
     *
     * @param price the change
     */
    public void handle(PriceChanged price) {
        cents.put(price.article, price.cents);
    }

    /**
     * The price of an article.
     *
     * @param article its name
     * @return null if this instance does not know it
     */
    public Long of(String article) {
        return cents.get(article);
    }
}
