package dev.courier.testing;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.errors.TopicExistsException;

/** Apache Kafka: the broker that {@code COURIER_TEST_KAFKA} names, else one of the run's own. */
public final class Kafka {
    private static final Duration START_LIMIT = Duration.ofSeconds(90);
    private static final String STARTED = "Kafka Server started";
    private static Kafka shared;

    private final String bootstrap;

    private Kafka(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    /**
     * The broker of the run, which is started by the first who asks.
     *
     * @return a broker that takes clients
     */
    public static synchronized Kafka shared() {
        if (shared == null) {
            String given = Processes.variable("COURIER_TEST_KAFKA");
            shared = new Kafka(given == null ? start() : given);
        }
        return shared;
    }

    /**
     * Where it listens.
     *
     * @return host and port
     */
    public String bootstrap() {
        return bootstrap;
    }

    /**
     * Creates topics, unless they are there.
     *
     * @param partitions of each
     * @param names      of the topics
     */
    public void createTopics(int partitions, String... names) {
        Map<String, Object> settings = Map.of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        try (Admin admin = Admin.create(settings)) {
            for (String name : names) {
                create(admin, new NewTopic(name, partitions, (short) 1));
            }
        }
    }

    private static void create(Admin admin, NewTopic topic) {
        try {
            admin.createTopics(List.of(topic)).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw new IllegalStateException("cannot create " + topic, error);
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", interrupted);
        }
    }

    private static String start() {
        Path directory = Processes.directory("kafka");
        int clients = Processes.freePort();
        int controller = Processes.freePort();
        String properties = String.join("\n",
                "process.roles=broker,controller",
                "node.id=1",
                "controller.quorum.voters=1@127.0.0.1:" + controller,
                "listeners=PLAINTEXT://127.0.0.1:" + clients + ",CONTROLLER://127.0.0.1:" + controller,
                "advertised.listeners=PLAINTEXT://127.0.0.1:" + clients,
                "controller.listener.names=CONTROLLER",
                "inter.broker.listener.name=PLAINTEXT",
                "log.dirs=" + directory.resolve("data"),
                "offsets.topic.replication.factor=1",
                "offsets.topic.num.partitions=4",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "auto.create.topics.enable=false", "");
        Path file = directory.resolve("server.properties");
        Path log = directory.resolve("kafka.log");
        try {
            Files.writeString(file, properties);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        String jars = jars() + "/*";
        String id = Processes.run(List.of(java, "-cp", jars, "kafka.tools.StorageTool", "random-uuid")).strip();
        String cluster = id.substring(id.lastIndexOf('\n') + 1);
        Processes.run(List.of(java, "-cp", jars, "kafka.tools.StorageTool", "format", "-t", cluster, "-c",
                file.toString()));
        Process broker = Processes.start(log, new ProcessBuilder(java, "-Xms256m", "-Xmx768m",
                "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp", jars,
                "kafka.Kafka", file.toString()));
        Processes.waitReady("Kafka", broker, log, START_LIMIT, () -> {
            try {
                return Files.readString(log).contains(STARTED);
            } catch (IOException error) {
                return false;
            }
        });
        return "127.0.0.1:" + clients;
    }

    /** The jars that the module test-support/kafka fetches. */
    private static Path jars() {
        for (Path at = Path.of("").toAbsolutePath(); at != null; at = at.getParent()) {
            Path jars = at.resolve("test-support/kafka/target/lib");
            if (Files.isDirectory(jars)) {
                return jars;
            }
        }
        throw new IllegalStateException("Kafka's jars are not there: run mvn verify in guest-sdk/client/java, whose "
                + "module test-support/kafka fetches them, or name a broker by COURIER_TEST_KAFKA");
    }
}
