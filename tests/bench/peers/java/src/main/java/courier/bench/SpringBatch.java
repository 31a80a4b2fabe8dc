package courier.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.autoconfigure.data.jpa.JpaRepositoriesAutoConfiguration;
import org.springframework.boot.autoconfigure.orm.jpa.HibernateJpaAutoConfiguration;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.transaction.annotation.Transactional;

/**
 * A batch listener that writes all rows of a poll as one JDBC batch in one transaction. A record
 * that fails is tried again on the spot, which holds up its partition: a listener has no other way
 * that keeps the order of a key.
 */
@EnableAutoConfiguration(exclude = {HibernateJpaAutoConfiguration.class, JpaRepositoriesAutoConfiguration.class})
class SpringBatch {
    private static final int RECORDS = 2_000;

    private final JdbcTemplate jdbc;

    SpringBatch(JdbcTemplate jdbc) {
        this.jdbc = jdbc;
    }

    public static void main(String[] arguments) {
        SpringPeer.start(SpringBatch.class, Map.of(
                "spring.kafka.listener.type", "batch",
                "spring.kafka.consumer.max-poll-records", RECORDS));
    }

    @Transactional
    @KafkaListener(topics = "${bench.topic}")
    public void listen(List<ConsumerRecord<byte[], byte[]>> records) throws InterruptedException {
        var received = Row.now();
        var rows = new ArrayList<Row>(records.size());
        for (var record : records) {
            rows.add(handle(record, received));
        }
        jdbc.batchUpdate(Row.INSERT, rows, rows.size(), (insert, row) -> row.bind(insert));
    }

    private static Row handle(ConsumerRecord<byte[], byte[]> record, long received) throws InterruptedException {
        for (int attempt = 1; ; attempt++) {
            var started = Row.now();
            try {
                Work.handle(record.key(), record.value());
                return Row.of(record, received, started, null);
            } catch (InterruptedException stop) {
                throw stop;
            } catch (Exception failure) {
                if (attempt == Work.ATTEMPTS) {
                    return Row.of(record, received, started, failure.getMessage());
                }
                Thread.sleep(Work.RETRY_MS);
            }
        }
    }
}
