package dev.courier;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Locale;

/** The databases whose outboxes a host relays. */
public enum OutboxDialect {
    /** PostgreSQL. */
    POSTGRESQL("PostgreSQL", "?::jsonb", "clock_timestamp() + ? * interval '1 microsecond'", "?::timestamptz") {
        @Override
        void bindDelay(java.sql.PreparedStatement insert, int at, Duration delay) throws SQLException {
            insert.setLong(at, Math.addExact(Math.multiplyExact(delay.getSeconds(), MICROS_PER_SECOND),
                    (delay.getNano() + NANOS_PER_MICRO - 1) / NANOS_PER_MICRO));
        }
    },
    /** SQLite. */
    SQLITE("SQLite", "?", "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)", "?") {
        @Override
        void bindDelay(java.sql.PreparedStatement insert, int at, Duration delay) throws SQLException {
            // SQLite's clock has whole milliseconds and may be one behind: one more, so that nothing is early.
            long millis = MessageJson.millisRoundedUp(delay) + 1;
            insert.setString(at, "+" + millis / MILLIS_PER_SECOND + "."
                    + String.format(Locale.ROOT, "%03d", millis % MILLIS_PER_SECOND) + " seconds");
        }
    };

    private static final long MICROS_PER_SECOND = 1_000_000;
    private static final long NANOS_PER_MICRO = 1_000;
    private static final long MILLIS_PER_SECOND = 1_000;

    private final String product;
    private final String headers;
    private final String afterDelay;
    private final String atTime;

    OutboxDialect(String product, String headers, String afterDelay, String atTime) {
        this.product = product;
        this.headers = headers;
        this.afterDelay = afterDelay;
        this.atTime = atTime;
    }

    /**
     * The dialect of a connection.
     *
     * @param connection to PostgreSQL or SQLite
     * @return its dialect
     * @throws OutboxException when a host relays no outbox of such a database
     */
    public static OutboxDialect of(Connection connection) {
        try {
            String product = connection.getMetaData().getDatabaseProductName();
            for (OutboxDialect dialect : values()) {
                if (dialect.product.equalsIgnoreCase(product)) {
                    return dialect;
                }
            }
            throw new OutboxException("Courier relays outboxes of PostgreSQL and SQLite, and this database is "
                    + product + ": publish outside of the transaction, or set courier.outbox.enabled=false", null);
        } catch (SQLException error) {
            throw new OutboxException("the database does not say what it is: " + error.getMessage(), error);
        }
    }

    /**
     * The table {@code courier_outbox}, as {@code courier outbox schema} prints it.
     *
     * @return statements, separated by semicolons
     */
    public String schema() {
        String vendor = this == POSTGRESQL ? "postgresql" : "sqlite";
        String file = "/courier/outbox/" + vendor + "/R__courier_outbox.sql";
        try (InputStream in = OutboxDialect.class.getResourceAsStream(file)) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException error) {
            throw new UncheckedIOException("cannot read " + file, error);
        }
    }

    /** The insert of a message; a delay is added to the database's clock, which is the one that the host asks. */
    String insert(String table, Draft draft) {
        String due = draft.delay() != null ? afterDelay : draft.deliverAt() != null ? atTime : "NULL";
        return "INSERT INTO " + table + " (id, source, topic, type, key, kind, body, headers, deliver_at) "
                + "VALUES (?, ?, ?, ?, ?, ?, ?, " + headers + ", " + due + ")";
    }

    /** Binds a delay to the parameter of the insert. */
    abstract void bindDelay(java.sql.PreparedStatement insert, int at, Duration delay) throws SQLException;
}
