package dev.courier.testing;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;

/** PostgreSQL: the server that {@code COURIER_TEST_POSTGRES} names, else one of the run's own. */
public final class Postgres {
    private static final Duration START_LIMIT = Duration.ofSeconds(60);
    private static final String USER = "postgres";
    private static final AtomicInteger DATABASES = new AtomicInteger();
    private static Postgres shared;

    private final URI server;

    private Postgres(URI server) {
        this.server = server;
    }

    /**
     * A database of its own.
     *
     * @param jdbcUrl    for JDBC, with user and password
     * @param courierUrl for the host, with user and password
     */
    public record Database(String jdbcUrl, String courierUrl) {
    }

    /**
     * The server of the run, which is started by the first who asks.
     *
     * @return a server that takes clients
     */
    public static synchronized Postgres shared() {
        if (shared == null) {
            String given = Processes.variable("COURIER_TEST_POSTGRES");
            shared = new Postgres(URI.create(given == null ? start() : given));
        }
        return shared;
    }

    /**
     * Creates an empty database.
     *
     * @return where it is
     */
    public Database createDatabase() {
        String name = "courier_java_" + ProcessHandle.current().pid() + "_" + DATABASES.incrementAndGet();
        String first = server.getPath().length() > 1 ? server.getPath().substring(1) : USER;
        try (Connection connection = DriverManager.getConnection(jdbcUrl(first));
                Statement statement = connection.createStatement()) {
            statement.execute("CREATE DATABASE " + name);
        } catch (SQLException error) {
            throw new IllegalStateException("cannot create a database on " + server.getAuthority(), error);
        }
        return new Database(jdbcUrl(name), "postgres://" + server.getRawAuthority() + "/" + name + query("?"));
    }

    private String jdbcUrl(String database) {
        String[] user = server.getUserInfo() == null ? new String[] {USER} : server.getUserInfo().split(":", 2);
        String credentials = "?user=" + user[0] + (user.length > 1 ? "&password=" + user[1] : "");
        int port = server.getPort() < 0 ? 5432 : server.getPort();
        return "jdbc:postgresql://" + server.getHost() + ":" + port + "/" + database + credentials + query("&");
    }

    private String query(String before) {
        return server.getRawQuery() == null ? "" : before + server.getRawQuery();
    }

    private static String start() {
        Path directory = Processes.directory("postgres");
        Path data = directory.resolve("data");
        Path log = directory.resolve("server.log");
        int port = Processes.freePort();
        List<String> as = asServerUser(directory);
        Path programs = programs();
        Processes.run(with(as, programs.resolve("initdb").toString(), "-D", data.toString(), "-A", "trust", "-U", USER,
                "-E", "UTF8", "--locale=C.UTF-8"));
        // pg_ctl and not the server itself: runuser would not pass a signal on, and the server would stay behind.
        String options = "-p " + port + " -k " + directory + " -c listen_addresses=127.0.0.1 -c max_connections=200";
        String control = programs.resolve("pg_ctl").toString();
        Processes.run(with(as, control, "-D", data.toString(), "-l", log.toString(), "-o", options, "-t",
                String.valueOf(START_LIMIT.toSeconds()), "-w", "start"));
        Processes.atEnd(() -> Processes.run(with(as, control, "-D", data.toString(), "-m", "immediate", "stop")));
        return "postgres://" + USER + "@127.0.0.1:" + port + "/" + USER;
    }

    private static List<String> with(List<String> as, String... command) {
        List<String> all = new ArrayList<>(as);
        all.addAll(List.of(command));
        return all;
    }

    /** The server refuses to run as root, so as root it runs as its own user. */
    private static List<String> asServerUser(Path directory) {
        if (!"root".equals(System.getProperty("user.name"))) {
            return List.of();
        }
        Processes.run(List.of("chown", USER, directory.toString()));
        return List.of("runuser", "-u", USER, "--");
    }

    private static Path programs() {
        Path versions = Path.of("/usr/lib/postgresql");
        if (!Files.isDirectory(versions)) {
            throw new IllegalStateException("PostgreSQL's programs are not in " + versions + ": install Debian's "
                    + "postgresql, or name a server by COURIER_TEST_POSTGRES");
        }
        try (Stream<Path> found = Files.list(versions)) {
            return found.map(version -> version.resolve("bin")).filter(bin -> Files.exists(bin.resolve("initdb")))
                    .max(Comparator.naturalOrder())
                    .orElseThrow(() -> new IllegalStateException("no initdb in " + versions + "/*/bin"));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
