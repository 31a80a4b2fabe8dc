package dev.courier.sample.stock;

import java.util.Map;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** Shows what is reserved. */
@RestController
class StockController {
    private final Stock stock;

    StockController(Stock stock) {
        this.stock = stock;
    }

    @GetMapping("/reservations")
    Map<String, Stock.Reservation> reservations() {
        return stock.reservations();
    }
}
