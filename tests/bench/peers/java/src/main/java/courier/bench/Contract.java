package courier.bench;

import java.net.URI;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;

/** What the benchmark tells a peer, by its environment, and what the peer tells it. */
final class Contract {
    static final String BOOTSTRAP = variable("BENCH_BOOTSTRAP");
    static final String TOPIC = variable("BENCH_TOPIC");
    static final String GROUP = variable("BENCH_GROUP");
    static final String WORK = variable("BENCH_WORK");
    /** Where the work {@code effect} sends its requests. */
    static final String EFFECTS = System.getenv().getOrDefault("BENCH_EFFECTS", "");
    /** The same for every peer: a member that was killed is missed after so long. */
    static final int SESSION_TIMEOUT_MS = 6_000;
    static final int HEARTBEAT_MS = 1_000;
    /** How often the handler was called. */
    static final LongAdder CALLS = new LongAdder();

    private static final int TELL_EVERY_MS = 500;

    private Contract() {}

    /** Prints a line of JSON twice a second for as long as the process lives. */
    static void tell() {
        var timer = Executors.newSingleThreadScheduledExecutor(work -> {
            var thread = new Thread(work, "tell");
            thread.setDaemon(true);
            return thread;
        });
        timer.scheduleAtFixedRate(
                () -> System.out.println("{\"calls\":" + CALLS.sum() + "}"), 0, TELL_EVERY_MS, TimeUnit.MILLISECONDS);
    }

    /** The database as JDBC names it; batches become inserts of many rows. */
    static String jdbcUrl() {
        var url = URI.create(variable("BENCH_DATABASE"));
        return "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath()
                + "?user=" + url.getUserInfo() + "&reWriteBatchedInserts=true";
    }

    private static String variable(String name) {
        var value = System.getenv(name);
        if (value == null) {
            throw new IllegalStateException(name + " is not set: the benchmark starts this program");
        }
        return value;
    }
}
