package dev.courier.sample.price;

import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;

/** Shows prices. */
@RestController
class PriceController {
    private final Prices prices;

    PriceController(Prices prices) {
        this.prices = prices;
    }

    @GetMapping("/prices/{article}")
    ResponseEntity<Long> price(@PathVariable String article) {
        return ResponseEntity.of(java.util.Optional.ofNullable(prices.of(article)));
    }
}
