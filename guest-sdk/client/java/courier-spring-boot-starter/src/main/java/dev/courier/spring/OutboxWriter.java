package dev.courier.spring;

import dev.courier.Draft;
import dev.courier.Outbox;
import dev.courier.OutboxDialect;
import dev.courier.OutboxException;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import javax.sql.DataSource;
import org.springframework.jdbc.datasource.ConnectionHolder;
import org.springframework.jdbc.datasource.DataSourceUtils;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionSynchronizationUtils;

/** Writes messages as rows of the outbox, in the thread's transaction. */
final class OutboxWriter {
    private final DataSource dataSource;
    private final String table;
    private volatile Outbox outbox;

    OutboxWriter(DataSource dataSource, String table) {
        this.dataSource = dataSource;
        this.table = table;
    }

    String table() {
        return table;
    }

    /** Writes a row that exists if and only if the transaction commits. */
    void write(Draft draft, String source) {
        if (TransactionSynchronizationManager.isCurrentTransactionReadOnly()) {
            throw new OutboxException(draft + " is published in a read-only transaction, which cannot take its row: "
                    + "remove readOnly, or publish outside of it", null);
        }
        // Asked before a connection is fetched: fetching one binds it to the thread even where no transaction of
        // this DataSource is open, and then its row would be committed at once.
        Object key = TransactionSynchronizationUtils.unwrapResourceIfNecessary(dataSource);
        Object bound = TransactionSynchronizationManager.getResource(key);
        if (!(bound instanceof ConnectionHolder) || !TransactionPhase.has(bound, dataSource)) {
            throw foreign(draft);
        }
        Connection connection = DataSourceUtils.getConnection(dataSource);
        try {
            if (connection.getAutoCommit()) {
                throw foreign(draft);
            }
            outbox(connection).insert(connection, draft, source);
        } catch (SQLException error) {
            throw new OutboxException("the connection of the transaction is broken: " + error.getMessage(), error);
        } finally {
            DataSourceUtils.releaseConnection(connection, dataSource);
        }
    }

    /** Creates the table if it is not there. */
    void initializeSchema() {
        try (Connection connection = dataSource.getConnection(); Statement statement = connection.createStatement()) {
            String schema = OutboxDialect.of(connection).schema();
            statement.execute(schema.replace(Outbox.DEFAULT_TABLE, table));
            if (!connection.getAutoCommit()) {
                connection.commit();
            }
        } catch (SQLException error) {
            throw new OutboxException("cannot create the outbox table " + table + ": " + error.getMessage(), error);
        }
    }

    private Outbox outbox(Connection connection) {
        Outbox known = outbox;
        if (known == null) {
            known = new Outbox(OutboxDialect.of(connection), table);
            outbox = known;
        }
        return known;
    }

    private static OutboxException foreign(Draft draft) {
        return new OutboxException(draft + " is published in a transaction that is not one of the outbox's DataSource, "
                + "so it could not commit with it: name the DataSource by courier.outbox.data-source", null);
    }
}
