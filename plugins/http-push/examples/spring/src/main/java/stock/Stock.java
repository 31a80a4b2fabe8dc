package stock;

import java.util.Map;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.http.HttpStatus;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.*;

@SpringBootApplication
@RestController
public class Stock {
    record Order(String orderId) {}

    @PostMapping("/courier")
    ResponseEntity<?> handle(@RequestBody Order order, @RequestHeader("courier-delivery") String delivery) {
        if (order.orderId() == null) {
            var why = Map.of("verdict", "reject", "reason", "the order has no orderId");
            return ResponseEntity.status(HttpStatus.UNPROCESSABLE_ENTITY).body(why);
        }
        System.out.println("delivery " + delivery + ": " + order.orderId());
        return ResponseEntity.noContent().build();
    }

    public static void main(String[] args) {
        SpringApplication.run(Stock.class, args);
    }
}
