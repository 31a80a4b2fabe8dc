package dev.courier.testing;

import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** A service of the tests in a process of its own, so that it can be killed. */
public final class JavaService implements AutoCloseable {
    private static final Duration READY_LIMIT = Duration.ofSeconds(120);

    private final Class<?> main;
    private final int port;
    private final List<String> arguments;
    private final Path log;
    private Process process;

    private JavaService(Class<?> main, int port, List<String> arguments, Path log) {
        this.main = main;
        this.port = port;
        this.arguments = arguments;
        this.log = log;
    }

    /**
     * Starts a service with the class path of the tests, and waits until its port takes connections.
     *
     * @param main      its class
     * @param arguments of its main method; {@code --server.port} is added
     * @return the service
     */
    public static JavaService start(Class<?> main, List<String> arguments) {
        Path log = Processes.directory("service").resolve("service.log");
        JavaService service = new JavaService(main, Processes.freePort(), List.copyOf(arguments), log);
        service.startAgain();
        return service;
    }

    /** Starts it after it was killed, on the same port. */
    public void startAgain() {
        // Surefire's own class path is a jar that is gone when the fork ends.
        String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx256m",
                "-XX:TieredStopAtLevel=1", "-cp", classPath, main.getName(), "--server.port=" + port));
        command.addAll(arguments);
        process = Processes.start(log, new ProcessBuilder(command));
        Processes.waitReady(main.getSimpleName(), process, log, READY_LIMIT, this::listens);
    }

    private boolean listens() {
        try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
            return socket.isConnected();
        } catch (IOException notYet) {
            return false;
        }
    }

    /** Ends it as a power switch would. */
    public void kill() {
        Processes.kill(process);
    }

    /**
     * Where it listens.
     *
     * @return the port
     */
    public int port() {
        return port;
    }

    @Override
    public void close() {
        Processes.stop(process);
    }
}
