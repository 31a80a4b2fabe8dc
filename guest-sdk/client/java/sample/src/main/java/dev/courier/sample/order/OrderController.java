package dev.courier.sample.order;

import dev.courier.EventPublisher;
import dev.courier.Receipt;
import org.springframework.http.HttpStatus;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PutMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.ResponseStatus;
import org.springframework.web.bind.annotation.RestController;

/** The HTTP interface: {@code PUT /orders/o-1?article=tea&quantity=2}. */
@RestController
class OrderController {
    private final Orders orders;

    OrderController(Orders orders) {
        this.orders = orders;
    }

    @PutMapping("/orders/{id}")
    @ResponseStatus(HttpStatus.CREATED)
    void place(@PathVariable String id, @RequestParam String article, @RequestParam int quantity) {
        orders.place(id, article, quantity);
    }

    @PutMapping("/orders/{id}/quantity")
    void amend(@PathVariable String id, @RequestParam int quantity) {
        orders.amend(id, quantity);
    }

    @PutMapping("/prices/{article}")
    Receipt price(@PathVariable String article, @RequestParam long cents) {
        // Nothing is stored here, so there is no transaction: the host has it when this returns.
        return EventPublisher.publish(new PriceChanged(article, cents));
    }
}
