package dev.courier.sample.order;

import dev.courier.EventPublisher;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import org.springframework.stereotype.Service;
import org.springframework.transaction.annotation.Transactional;

/** What can be done with orders. Each message exists if and only if its transaction commits. */
@Service
class Orders {
    private static final long PAYMENT_SECONDS = 2;

    private final OrderRepository orders;

    Orders(OrderRepository orders) {
        this.orders = orders;
    }

    @Transactional
    public void place(String id, String article, int quantity) {
        Order order = orders.save(new Order(id, article, quantity));
        EventPublisher.publish(new OrderCreated(order));
        EventPublisher.publish(new PaymentReminder(id, Instant.now()), PAYMENT_SECONDS, TimeUnit.SECONDS);
        // The database refuses a quantity of 0: the transaction rolls back, and no message exists.
        orders.flush();
    }

    @Transactional
    public void amend(String id, int quantity) {
        Order order = orders.findOneById(id).orElseThrow();
        order.amend(quantity);
        EventPublisher.publish(new OrderAmended(order));
    }
}
