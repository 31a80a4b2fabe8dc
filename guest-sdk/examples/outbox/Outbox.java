import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.UUID;

/**
 * An order and its message in one transaction, with plain JDBC.
 *
 * <pre>
 * courier outbox schema --for postgres | psql "$URL"
 * java -cp postgresql.jar Outbox.java "jdbc:postgresql://localhost/shop?user=shop"
 * </pre>
 *
 * Courier relays the row once the transaction has committed, and never when it
 * rolled back. In Spring the same insert stands in a {@code @Transactional}
 * method, by a JdbcTemplate on the same data source.
 */
public final class Outbox {
    private static final String ORDER = "INSERT INTO shop_order (id, name) VALUES (?, ?)";
    private static final String MESSAGE = "INSERT INTO courier_outbox (topic, type, key, body) VALUES (?, ?, ?, ?)";

    public static void main(String[] arguments) throws SQLException {
        if (arguments.length != 1) {
            throw new IllegalArgumentException("name the database: java Outbox.java jdbc:postgresql://..");
        }
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            connection.createStatement().execute(
                "CREATE TABLE IF NOT EXISTS shop_order (id text PRIMARY KEY, name text NOT NULL)");
            System.out.println(createOrder(connection, "tea"));
        }
    }

    /** Writes the order and its message, or neither; returns the order's id. */
    static String createOrder(Connection connection, String name) throws SQLException {
        String order = "o-" + UUID.randomUUID();
        connection.setAutoCommit(false);
        try (PreparedStatement insertOrder = connection.prepareStatement(ORDER);
             PreparedStatement insertMessage = connection.prepareStatement(MESSAGE)) {
            insertOrder.setString(1, order);
            insertOrder.setString(2, name);
            insertOrder.executeUpdate();
            insertMessage.setString(1, "order");
            insertMessage.setString(2, "OrderCreated");
            insertMessage.setString(3, order);
            // A JSON library writes the body in a real service.
            insertMessage.setString(4, "{\"order_id\": \"" + order + "\", \"order_name\": \"" + name + "\"}");
            insertMessage.executeUpdate();
            connection.commit();
            return order;
        } catch (SQLException problem) {
            connection.rollback();
            throw problem;
        }
    }
}
