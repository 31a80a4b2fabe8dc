package dev.courier.sample.stock;

import dev.courier.spring.EnableMessage;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration;
import org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;

/** Reserves stock for orders. It keeps what it reserved in memory, so that the sample stays small. */
@EnableMessage
@SpringBootApplication(exclude = {DataSourceAutoConfiguration.class, HibernateJpaAutoConfiguration.class})
public class StockService {
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
        return new SpringApplicationBuilder(StockService.class).properties("spring.config.name=stock-service");
    }
}
