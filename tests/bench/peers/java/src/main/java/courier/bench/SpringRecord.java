package courier.bench;

import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.dao.DataIntegrityViolationException;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/** Spring Kafka as its guide shows it: a listener that gets one record and saves one entity. */
@EnableAutoConfiguration
class SpringRecord {
    private final Deliveries deliveries;

    SpringRecord(Deliveries deliveries) {
        this.deliveries = deliveries;
    }

    public static void main(String[] arguments) {
        SpringPeer.start(SpringRecord.class, Map.of("spring.jpa.open-in-view", "false"));
    }

    @KafkaListener(topics = "${bench.topic}")
    void listen(ConsumerRecord<byte[], byte[]> record) throws Exception {
        var received = Row.now();
        Work.handle(record.key(), record.value());
        save(Row.of(record, received, received, null));
    }

    /** Calls the listener again for the record, then keeps it as failed and goes on. */
    @Bean
    @SuppressWarnings("unchecked")
    DefaultErrorHandler errors() {
        return new DefaultErrorHandler(
                (record, failure) -> {
                    var cause = failure.getCause() == null ? failure : failure.getCause();
                    var now = Row.now();
                    save(Row.of((ConsumerRecord<byte[], byte[]>) record, now, now, cause.getMessage()));
                },
                new FixedBackOff(Work.RETRY_MS, Work.ATTEMPTS - 1));
    }

    private void save(Row row) {
        try {
            deliveries.save(new Delivery(row));
        } catch (DataIntegrityViolationException alreadyThere) {
            // Kafka delivered it again after a crash.
        }
    }
}
