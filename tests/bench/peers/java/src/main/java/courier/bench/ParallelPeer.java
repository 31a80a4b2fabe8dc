package courier.bench;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ParallelConsumerOptionsBuilder;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import io.confluent.parallelconsumer.PollContext;
import io.confluent.parallelconsumer.RecordContext;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** What both peers with Confluent's Parallel Consumer share: one record of a key at a time. */
final class ParallelPeer {
    private static final int CONNECTIONS = 16;

    private ParallelPeer() {}

    static void start(
            Consumer<ParallelConsumerOptionsBuilder<byte[], byte[]>> own,
            Consumer<PollContext<byte[], byte[]>> listener) {
        var consumer = new KafkaConsumer<byte[], byte[]>(
                Map.of(
                        "bootstrap.servers", Contract.BOOTSTRAP,
                        "group.id", Contract.GROUP,
                        "auto.offset.reset", "earliest",
                        "enable.auto.commit", "false",
                        "isolation.level", "read_committed",
                        "session.timeout.ms", Contract.SESSION_TIMEOUT_MS,
                        "heartbeat.interval.ms", Contract.HEARTBEAT_MS),
                new ByteArrayDeserializer(),
                new ByteArrayDeserializer());
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(consumer)
                .ordering(ProcessingOrder.KEY)
                .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
                .commitInterval(Duration.ofSeconds(1))
                .defaultMessageRetryDelay(Duration.ofMillis(Work.RETRY_MS));
        own.accept(options);
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options.build());
        processor.subscribe(List.of(Contract.TOPIC));
        Contract.tell();
        processor.poll(listener);
    }

    static HikariDataSource database(boolean autoCommit) {
        var config = new HikariConfig();
        config.setJdbcUrl(Contract.jdbcUrl());
        config.setMaximumPoolSize(CONNECTIONS);
        config.setAutoCommit(autoCommit);
        return new HikariDataSource(config);
    }

    /** The row of a failed record that has no attempt left; none when it is to be tried again. */
    static Row givenUp(RecordContext<byte[], byte[]> context, long received, Throwable failure) {
        if (context.getNumberOfFailedAttempts() + 1 < Work.ATTEMPTS) {
            return null;
        }
        return Row.of(context.getConsumerRecord(), received, received, failure.getMessage());
    }

    /** Inserts rows in one transaction. */
    static void insert(HikariDataSource database, List<Row> rows) throws SQLException {
        try (var connection = database.getConnection();
                var insert = connection.prepareStatement(Row.INSERT)) {
            for (var row : rows) {
                row.bind(insert);
                insert.addBatch();
            }
            insert.executeBatch();
            if (!connection.getAutoCommit()) {
                connection.commit();
            }
        }
    }
}
