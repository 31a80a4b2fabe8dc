package dev.courier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.Locale;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Rows of the outbox in SQLite, without Spring; PostgreSQL's are tested with the starter. */
class OutboxTest {
    @Topic(name = "order")
    static class OrderCreated extends Event {
        @PrimaryKey
        String orderId = "o-1";
    }

    private final CourierClient client = CourierClient.of("http://127.0.0.1:7070", "shop");
    private Connection connection;

    @BeforeEach
    void open(@TempDir Path directory) throws SQLException {
        connection = DriverManager.getConnection("jdbc:sqlite:" + directory.resolve("shop.db"));
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate(OutboxDialect.of(connection).schema());
        }
        connection.setAutoCommit(false);
    }

    @AfterEach
    void close() throws SQLException {
        connection.close();
    }

    private String row(String columns) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT " + columns + " FROM courier_outbox")) {
            return rows.next() ? rows.getString(1) : null;
        }
    }

    @Test
    void aRowExistsIfAndOnlyIfTheTransactionCommits() throws SQLException {
        Receipt receipt = client.publishIn(Outbox.of(connection), connection, new OrderCreated());
        assertThat(receipt.state()).isEqualTo(Receipt.State.IN_TRANSACTION);
        assertThat(row("id")).isEqualTo(receipt.id());
        assertThat(row("source || topic || type || key || kind || body || headers"))
                .isEqualTo("shoporderOrderCreatedo-1event{\"orderId\":\"o-1\"}{}");
        connection.rollback();
        assertThat(row("id")).isNull();
    }

    @Test
    void aDelayIsAddedToTheClockOfTheDatabase() throws SQLException {
        Draft draft = client.draft(new OrderCreated()).after(Duration.ofMillis(90_061_001));
        Outbox.of(connection).insert(connection, draft, null);
        // Both of the database's clock: the row's time is at most some seconds before or after.
        double days = Double.parseDouble(row("julianday(deliver_at) - julianday(created_at)"));
        assertThat(days * 86_400).isBetween(90_061.0, 90_071.0);
        assertThat(row("deliver_at")).matches("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z");
    }

    @Test
    void theDigitsOfTheServicesLanguageAreNoneOfADelay() throws SQLException {
        Locale before = Locale.getDefault();
        Locale.setDefault(Locale.forLanguageTag("ar-u-nu-arab"));
        try {
            Draft draft = client.draft(new OrderCreated()).after(Duration.ofHours(1));
            Outbox.of(connection).insert(connection, draft, null);
        } finally {
            Locale.setDefault(before);
        }
        assertThat(row("deliver_at > created_at")).isEqualTo("1");
    }

    @Test
    void aTimeIsWrittenAsTheHostReadsIt() throws SQLException {
        Draft draft = client.draft(new OrderCreated()).at(Instant.ofEpochSecond(1, 500));
        Outbox.of(connection).insert(connection, draft, null);
        assertThat(row("deliver_at")).isEqualTo("1970-01-01T00:00:01.000001Z");
        assertThat(row("source")).isNull();
    }

    @Test
    void aTableThatIsMissingOrNoNameIsSaid() throws SQLException {
        assertThatThrownBy(() -> new Outbox(OutboxDialect.SQLITE, "a\"; DROP TABLE b"))
                .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("plain name");
        Outbox elsewhere = new Outbox(OutboxDialect.SQLITE, "elsewhere");
        assertThatThrownBy(() -> client.publishIn(elsewhere, connection, new OrderCreated()))
                .isInstanceOf(OutboxException.class).hasMessageContaining("elsewhere");
    }
}
