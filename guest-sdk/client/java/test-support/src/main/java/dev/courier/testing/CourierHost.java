package dev.courier.testing;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** Courier's host: the program that {@code COURIER_BIN} names, else the one that was built in this checkout. */
public final class CourierHost implements AutoCloseable {
    private static final Duration READY_LIMIT = Duration.ofSeconds(60);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private final String node;
    private final String url;
    private final Path config;
    private final Path log;
    private final Map<String, String> environment;
    private Process process;

    private CourierHost(String node, int port, Path directory, Map<String, String> environment) {
        this.node = node;
        this.url = "http://127.0.0.1:" + port;
        this.config = directory.resolve("courier.toml");
        this.log = directory.resolve("host.log");
        this.environment = Map.copyOf(environment);
    }

    /**
     * Starts a host and waits until it is ready.
     *
     * @param node        its name among the hosts of the store
     * @param store       the URL of its database
     * @param toml        further tables, such as bindings
     * @param environment further variables
     * @return a host that takes messages
     */
    public static CourierHost start(String node, String store, String toml, Map<String, String> environment) {
        int port = Processes.freePort();
        CourierHost host = new CourierHost(node, port, Processes.directory("host"), environment);
        write(host.config, String.join("\n",
                "[server]",
                "listen = \"127.0.0.1:" + port + "\"",
                "node = \"" + node + "\"",
                "[kafka]",
                "bootstrap_servers = [\"" + Kafka.shared().bootstrap() + "\"]",
                "[kafka.topics]",
                "create = true",
                "[kafka.properties]",
                "\"session.timeout.ms\" = \"6000\"",
                "\"heartbeat.interval.ms\" = \"1000\"",
                "[store]",
                "url = \"" + store + "\"", "", toml, ""));
        host.startAgain();
        return host;
    }

    /** Starts it after it was killed, on the same port with the same store, and waits until it is ready. */
    public void startAgain() {
        ProcessBuilder program = new ProcessBuilder(program().toString(), "serve", "--config", config.toString());
        program.environment().putAll(environment);
        process = Processes.start(log, program);
        Processes.waitReady("the host " + node, process, log, READY_LIMIT, this::ready);
    }

    /** Ends it as a power switch would. */
    public void kill() {
        Processes.kill(process);
    }

    private static void write(Path file, String text) {
        try {
            Files.writeString(file, text);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /**
     * Where it listens.
     *
     * @return for example {@code http://127.0.0.1:7070}
     */
    public String url() {
        return url;
    }

    /**
     * Adds tables to its configuration, which it takes over while it runs.
     *
     * @param toml for example a binding
     */
    public void configure(String toml) {
        try {
            write(config, Files.readString(config) + "\n" + toml + "\n");
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /**
     * Asks the API.
     *
     * @param path for example {@code /v1/messages}
     * @return the answer
     */
    public JsonNode get(String path) {
        try {
            HttpResponse<String> answer = ask(path);
            if (answer.statusCode() >= 300) {
                throw new IllegalStateException(path + ": " + answer.statusCode() + " " + answer.body());
            }
            return JSON.readTree(answer.body());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /**
     * The end of its log.
     *
     * @return lines
     */
    public String log() {
        return Processes.tail(log);
    }

    /**
     * Runs the program with other arguments.
     *
     * @param arguments for example {@code outbox schema --for sqlite}
     * @return what it printed
     */
    public static String run(String... arguments) {
        List<String> command = new java.util.ArrayList<>(List.of(program().toString()));
        command.addAll(List.of(arguments));
        return Processes.run(command);
    }

    @Override
    public void close() {
        Processes.stop(process);
    }

    private boolean ready() {
        try {
            return ask("/readyz").statusCode() == 200;
        } catch (IOException notYet) {
            return false;
        }
    }

    private HttpResponse<String> ask(String path) throws IOException {
        try {
            return HTTP.send(HttpRequest.newBuilder(URI.create(url + path)).build(), BodyHandlers.ofString());
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", interrupted);
        }
    }

    private static Path program() {
        String given = Processes.variable("COURIER_BIN");
        if (given != null) {
            return Path.of(given);
        }
        String target = Processes.variable("CARGO_TARGET_DIR");
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent()) {
            if (Files.exists(at.resolve("Cargo.lock")) && Files.isDirectory(at.resolve("host"))) {
                Path built = (target == null ? at.resolve("target") : Path.of(target)).resolve("release/courier");
                if (Files.exists(built)) {
                    return built;
                }
                break;
            }
        }
        throw new IllegalStateException("the host is not built: run cargo build --release -p courier, or name the "
                + "program by COURIER_BIN");
    }
}
