package dev.courier;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.regex.Pattern;

/**
 * The outbox table of a service's own database. A row that is written in a transaction is a message if and only if
 * that transaction commits; a host relays it.
 */
public final class Outbox {
    /** The table, unless another one is named. */
    public static final String DEFAULT_TABLE = "courier_outbox";

    private static final Pattern PLAIN_NAME = Pattern.compile("[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)?");
    private static final int DUE_PARAMETER = 9;
    private static final String UNDEFINED_TABLE = "42P01";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final OutboxDialect dialect;
    private final String table;

    /**
     * An outbox.
     *
     * @param dialect the database
     * @param table   the table's name, with its schema before a dot if it has one
     */
    public Outbox(OutboxDialect dialect, String table) {
        if (!PLAIN_NAME.matcher(table).matches()) {
            throw new IllegalArgumentException("the outbox table " + table + " is no plain name, as courier_outbox "
                    + "or shop.courier_outbox is");
        }
        this.dialect = dialect;
        this.table = '"' + table.replace(".", "\".\"") + '"';
    }

    /**
     * The outbox {@code courier_outbox} of a connection's database.
     *
     * @param connection to PostgreSQL or SQLite
     * @return its outbox
     */
    public static Outbox of(Connection connection) {
        return new Outbox(OutboxDialect.of(connection), DEFAULT_TABLE);
    }

    /**
     * Writes the row of a message.
     *
     * @param connection in the service's transaction
     * @param draft      the message
     * @param source     the sending service; null for the name of the outbox
     * @throws OutboxException when the row cannot be written
     */
    public void insert(Connection connection, Draft draft, String source) {
        try (PreparedStatement insert = connection.prepareStatement(dialect.insert(table, draft))) {
            MessageType type = draft.type();
            String[] columns = {draft.id(), source, type.topic(), type.name(), draft.key(),
                type.broadcast() ? "broadcast" : "event", draft.body(), MessageJson.headers(JSON, draft).toString()};
            for (int at = 0; at < columns.length; at++) {
                insert.setString(at + 1, columns[at]);
            }
            if (draft.delay() != null) {
                dialect.bindDelay(insert, DUE_PARAMETER, draft.delay());
            } else if (draft.deliverAt() != null) {
                insert.setString(DUE_PARAMETER, MessageJson.rfc3339RoundedUp(draft.deliverAt()));
            }
            insert.executeUpdate();
        } catch (SQLException error) {
            String missing = UNDEFINED_TABLE.equals(error.getSQLState()) ? ". Create the table, as `courier outbox "
                    + "schema` prints it: with Flyway, Liquibase or courier.outbox.initialize-schema=always" : "";
            throw new OutboxException(
                    "the outbox row of " + draft + " was not written: " + error.getMessage() + missing, error);
        }
    }
}
