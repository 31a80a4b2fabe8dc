package dev.courier.testing;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** Starts programs that end with the test run at the latest. */
final class Processes {
    private static final Duration STOP_PATIENCE = Duration.ofSeconds(15);
    private static final int SHOWN_LINES = 40;
    private static final List<Runnable> ENDINGS = new ArrayList<>();

    static {
        Runtime.getRuntime().addShutdownHook(new Thread(Processes::endAll));
    }

    private Processes() {
    }

    private static void endAll() {
        List<Runnable> endings;
        synchronized (ENDINGS) {
            endings = new ArrayList<>(ENDINGS);
        }
        // The last one that was started may need the others until it has ended.
        for (int at = endings.size() - 1; at >= 0; at--) {
            endings.get(at).run();
        }
    }

    static void atEnd(Runnable ending) {
        synchronized (ENDINGS) {
            ENDINGS.add(ending);
        }
    }

    /** Starts a program whose output goes to a file. */
    static Process start(Path log, ProcessBuilder program) {
        try {
            program.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()));
            Process process = program.start();
            atEnd(() -> stop(process));
            return process;
        } catch (IOException error) {
            throw new UncheckedIOException("cannot start " + program.command(), error);
        }
    }

    static void stop(Process process) {
        process.destroy();
        try {
            if (!process.waitFor(STOP_PATIENCE.toSeconds(), TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
            }
        } catch (InterruptedException interrupted) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }

    /** Ends a program as a power switch would. */
    static void kill(Process process) {
        try {
            process.destroyForcibly().waitFor();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", interrupted);
        }
    }

    /** Runs a program to its end and returns what it printed. */
    static String run(List<String> command) {
        try {
            Path out = Files.createTempFile("courier-test", ".out");
            Process process = new ProcessBuilder(command).redirectErrorStream(true)
                    .redirectOutput(out.toFile()).start();
            int code = process.waitFor();
            String printed = Files.readString(out);
            Files.delete(out);
            if (code != 0) {
                throw new IllegalStateException(String.join(" ", command) + " ended with " + code + ":\n" + printed);
            }
            return printed;
        } catch (IOException error) {
            throw new UncheckedIOException("cannot run " + command, error);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", interrupted);
        }
    }

    /** Waits for a condition, and shows the end of the program's log if it does not come. */
    static void waitReady(String what, Process process, Path log, Duration limit, Condition ready) {
        long deadline = System.nanoTime() + limit.toNanos();
        try {
            while (!ready.holds()) {
                if (!process.isAlive() || System.nanoTime() > deadline) {
                    throw new IllegalStateException(what + " is not ready. Its log ends with:\n" + tail(log));
                }
                Thread.sleep(100);
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", interrupted);
        }
    }

    /** What is waited for. */
    interface Condition {
        boolean holds();
    }

    static String tail(Path log) {
        try {
            List<String> lines = Files.readAllLines(log);
            return String.join("\n", lines.subList(Math.max(0, lines.size() - SHOWN_LINES), lines.size()));
        } catch (IOException error) {
            return "(" + error + ")";
        }
    }

    static int freePort() {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** A directory that is removed when the run ends. */
    static Path directory(String name) {
        try {
            Path directory = Files.createTempDirectory("courier-test-" + name + "-");
            atEnd(() -> remove(directory));
            return directory;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static void remove(Path directory) {
        try (Stream<Path> files = Files.walk(directory)) {
            files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
        } catch (IOException | UncheckedIOException left) {
            // A file that is left in the temporary directory fails no test.
            System.err.println("left " + directory + ": " + left);
        }
    }

    /** A variable of the environment; null if it is not there or empty. */
    static String variable(String name) {
        String value = System.getenv(name);
        return value == null || value.isBlank() ? null : value;
    }
}
