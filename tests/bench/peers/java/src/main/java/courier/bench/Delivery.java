package courier.bench;

import jakarta.persistence.Column;
import jakarta.persistence.Entity;
import jakarta.persistence.Id;
import jakarta.persistence.IdClass;
import jakarta.persistence.Table;
import java.io.Serializable;
import org.springframework.data.domain.Persistable;

/** A status row as an entity. */
@Entity
@Table(name = "delivery")
@IdClass(Delivery.Place.class)
class Delivery implements Persistable<Delivery.Place> {
    record Place(long positionId, long recordOffset) implements Serializable {}

    @Id
    @Column(name = "position_id")
    private long positionId;

    @Id
    @Column(name = "record_offset")
    private long recordOffset;

    @Column(name = "message_id")
    private String messageId;

    private byte[] key;
    private short state;
    private String reason;

    @Column(name = "record_time")
    private long recordTime;

    @Column(name = "received_at")
    private long receivedAt;

    @Column(name = "started_at")
    private long startedAt;

    @Column(name = "settled_at")
    private long settledAt;

    protected Delivery() {}

    Delivery(Row row) {
        positionId = row.partition();
        recordOffset = row.offset();
        messageId = row.messageId();
        key = row.key();
        state = row.state();
        reason = row.reason();
        recordTime = row.recordTime();
        receivedAt = row.receivedAt();
        startedAt = row.startedAt();
        settledAt = row.settledAt();
    }

    @Override
    public Place getId() {
        return new Place(positionId, recordOffset);
    }

    /** Always inserted: without this a save would read the row first. */
    @Override
    public boolean isNew() {
        return true;
    }
}
