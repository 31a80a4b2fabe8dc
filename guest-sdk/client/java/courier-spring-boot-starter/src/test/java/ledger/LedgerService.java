package ledger;

import com.fasterxml.jackson.annotation.JsonCreator;
import dev.courier.Event;
import dev.courier.PrimaryKey;
import dev.courier.Topic;
import dev.courier.spring.Delivery;
import dev.courier.spring.EnableMessage;
import dev.courier.spring.EventHandler;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration;
import org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration;

/** A plain Spring Boot service that writes down each delivery that it handles, in a file that outlives it. */
@EnableMessage
@SpringBootApplication(exclude = {DataSourceAutoConfiguration.class, HibernateJpaAutoConfiguration.class})
public class LedgerService {
    /** Starts the service. */
    public static void main(String[] arguments) {
        SpringApplication.run(LedgerService.class, arguments);
    }

    /** One entry of a key's sequence. */
    @Topic(name = "ledger")
    static class Entry extends Event {
        @PrimaryKey
        final String key;
        final int number;

        @JsonCreator
        Entry(String key, int number) {
            this.key = key;
            this.number = number;
        }
    }

    @EventHandler(topic = "ledger", consumerGroup = "ledger")
    static class EntryHandler {
        private final OutputStream file;

        EntryHandler(@Value("${ledger.file}") String file) throws IOException {
            this.file = new FileOutputStream(file, true);
        }

        /** Writes a line at once, so that a killed process has written it wholly or not at all. */
        public void handle(Entry entry, Delivery delivery) throws IOException {
            String line = entry.key + " " + entry.number + " " + delivery.id() + "\n";
            synchronized (file) {
                file.write(line.getBytes(StandardCharsets.UTF_8));
            }
        }
    }
}
