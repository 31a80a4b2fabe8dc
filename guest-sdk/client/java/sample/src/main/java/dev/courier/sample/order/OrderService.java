package dev.courier.sample.order;

import dev.courier.spring.EnableMessage;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;

/** Takes orders and changes of prices, and tells others of them. */
@EnableMessage
@SpringBootApplication
public class OrderService {
    /**
     * Starts the service.
     *
     * @param arguments settings of Spring Boot
     */
    public static void main(String[] arguments) {
        builder().run(arguments);
    }

    /**
     * The service with its own settings.
     *
     * @return what starts it
     */
    public static SpringApplicationBuilder builder() {
        return new SpringApplicationBuilder(OrderService.class).properties("spring.config.name=order-service");
    }
}
