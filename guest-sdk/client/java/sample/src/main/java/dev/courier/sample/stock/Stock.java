package dev.courier.sample.stock;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.springframework.stereotype.Component;

/** What was reserved, and what happened on the way. */
@Component
public class Stock {
    /**
     * What is reserved for an order.
     *
     * @param quantity how much
     * @param versions of the order, as they came
     */
    public record Reservation(int quantity, List<Integer> versions) {
    }

    private final Map<String, Reservation> reservations = new ConcurrentHashMap<>();
    private final Map<String, Duration> reminders = new ConcurrentHashMap<>();
    private final List<String> created = new CopyOnWriteArrayList<>();

    void reserve(String orderId, int quantity, int version) {
        reservations.merge(orderId, new Reservation(quantity, List.of(version)), (before, now) -> {
            List<Integer> versions = new ArrayList<>(before.versions());
            versions.add(version);
            return new Reservation(now.quantity(), List.copyOf(versions));
        });
    }

    void created(String orderId) {
        created.add(orderId);
    }

    void reminded(String orderId, Duration after) {
        reminders.put(orderId, after);
    }

    /**
     * What is reserved.
     *
     * @return by order
     */
    public Map<String, Reservation> reservations() {
        return reservations;
    }

    /**
     * The orders of whose creation this service was told, each time it was.
     *
     * @return ids
     */
    public List<String> created() {
        return created;
    }

    /**
     * How long after its order each reminder came.
     *
     * @return by order
     */
    public Map<String, Duration> reminders() {
        return reminders;
    }
}
