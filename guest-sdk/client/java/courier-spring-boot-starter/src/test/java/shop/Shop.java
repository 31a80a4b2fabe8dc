package shop;

import dev.courier.Broadcast;
import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.PrimaryKey;
import dev.courier.Topic;
import dev.courier.spring.EnableMessage;
import dev.courier.spring.EventHandler;
import jakarta.persistence.Entity;
import jakarta.persistence.Id;
import jakarta.persistence.Table;
import java.util.Date;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.data.jpa.repository.JpaRepository;
import org.springframework.stereotype.Service;
import org.springframework.transaction.annotation.Transactional;

// The code that a team writes, letter for letter as the README shows it; what it leaves out is between the lines.

@EnableMessage @SpringBootApplication class Shop { }

@Topic(name = "order") class OrderCreated extends Event { @PrimaryKey String orderId; String orderName; Date createdAt;
    OrderCreated(String orderId, String orderName, Date createdAt) {
        this.orderId = orderId;
        this.orderName = orderName;
        this.createdAt = createdAt;
    }
}

@Topic(name = "price") class PriceChanged extends Broadcast { String article; long cents; }

@EventHandler(topic = "order", consumerGroup = "stock") class OrderMessageHandler { public void handle(OrderCreated e) { handled.add(e); }
    final Queue<OrderCreated> handled = new ConcurrentLinkedQueue<>();
}

@Service
class OrderService {
    private final OrderRepository orders;

    OrderService(OrderRepository orders) {
        this.orders = orders;
    }

    void say(OrderCreated event) {
        EventPublisher.publish(new OrderCreated("o-0", "coffee", new Date(0)));
        EventPublisher.publish(event);
        EventPublisher.publish(event, 2, TimeUnit.SECONDS);
        EventPublisher.publish(new PriceChanged());
    }

    @Transactional void place(Order order, OrderCreated event) { orders.save(order); EventPublisher.publish(event); }
}

interface OrderRepository extends JpaRepository<Order, String> {
}

@Entity
@Table(name = "shop_order")
class Order {
    @Id
    String id;
    String name;
}
