package courier.bench;

import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** A status row. */
record Row(
        int partition, long offset, String messageId, byte[] key, short state, String reason,
        long recordTime, long receivedAt, long startedAt, long settledAt) {

    static final short HANDLED = 5;
    static final short HANDLE_FAIL = 4;
    /** A record that Kafka delivers again after a crash has its row already. */
    static final String INSERT =
            "INSERT INTO delivery (position_id, record_offset, message_id, key, state, reason, record_time, "
                    + "received_at, started_at, settled_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                    + "ON CONFLICT DO NOTHING";

    static long now() {
        return ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
    }

    /** The row of a record whose handler failed for a reason, or did not. */
    static Row of(ConsumerRecord<byte[], byte[]> record, long receivedAt, long startedAt, String reason) {
        return new Row(
                record.partition(), record.offset(),
                record.topic() + ":" + record.partition() + ":" + record.offset(), record.key(),
                reason == null ? HANDLED : HANDLE_FAIL, reason,
                record.timestamp() * 1_000, receivedAt, startedAt, now());
    }

    void bind(PreparedStatement insert) throws SQLException {
        insert.setInt(1, partition);
        insert.setLong(2, offset);
        insert.setString(3, messageId);
        insert.setBytes(4, key);
        insert.setShort(5, state);
        insert.setString(6, reason);
        insert.setLong(7, recordTime);
        insert.setLong(8, receivedAt);
        insert.setLong(9, startedAt);
        insert.setLong(10, settledAt);
    }
}
