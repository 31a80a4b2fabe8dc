package dev.courier.sample.price;

import dev.courier.spring.EnableMessage;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration;
import org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;

/** Keeps prices in the memory of each instance. */
@EnableMessage
@SpringBootApplication(exclude = {DataSourceAutoConfiguration.class, HibernateJpaAutoConfiguration.class})
public class PriceCache {
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
        return new SpringApplicationBuilder(PriceCache.class).properties("spring.config.name=price-cache");
    }
}
