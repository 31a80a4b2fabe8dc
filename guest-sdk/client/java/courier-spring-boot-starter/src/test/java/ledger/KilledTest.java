package ledger;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.courier.spring.FakeHost;
import dev.courier.testing.CourierHost;
import dev.courier.testing.JavaService;
import dev.courier.testing.Kafka;
import dev.courier.testing.Postgres;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A service with the starter takes its messages through kills of the host and of itself: none is lost, the order of a
 * key holds, and what comes twice is the same delivery. 100,000 messages over 1,000 keys and 20 kills with
 * {@code COURIER_TEST_SCALE=full}.
 */
class KilledTest {
    private static final boolean FULL = "full".equals(System.getenv("COURIER_TEST_SCALE"));
    private static final int KEYS = FULL ? 1_000 : 50;
    private static final int NUMBERS = FULL ? 100 : 40;
    private static final int KILLS = FULL ? 20 : 4;
    private static final Duration LIMIT = Duration.ofMinutes(FULL ? 10 : 5);
    /** The whole ledger is read each time, so not too often. */
    private static final Duration POLL = Duration.ofMillis(500);
    private static final String BINDING = """
            [[binding]]
            group = "ledger"
            topics = ["ledger"]
            types = ["Entry"]
            plugin = "http-push"
            isolation = "instance"
            concurrency = 64
            timeout = "30s"
            [binding.retry]
            max_attempts = 100
            initial = "200ms"
            max = "2s"
            [binding.config]
            url = "http://localhost:%d/courier"
            [binding.secrets]
            signing_key = { env = "COURIER_SIGNING_KEY" }
            """;

    /** What the service wrote of one delivery. */
    private record Line(String key, int number, String delivery) {
        private static Line of(String text) {
            String[] parts = text.split(" ");
            return new Line(parts[0], Integer.parseInt(parts[1]), parts[2]);
        }
    }

    @Test
    void nothingIsLostAndEachKeyKeepsItsOrder(@TempDir Path directory) {
        Path ledger = directory.resolve("ledger");
        Kafka.shared().createTopics(8, "ledger");
        try (JavaService service = JavaService.start(LedgerService.class, List.of("--ledger.file=" + ledger,
                "--courier.handlers.signing-key=" + FakeHost.KEY, "--logging.level.root=warn"));
                CourierHost host = CourierHost.start("host-1", Postgres.shared().createDatabase().courierUrl(),
                        BINDING.formatted(service.port()), Map.of("COURIER_SIGNING_KEY", FakeHost.KEY))) {
            publish();
            int total = KEYS * NUMBERS;
            for (int kill = 1; kill <= KILLS; kill++) {
                int enough = total * kill / (KILLS + 1);
                await(enough + " entries").atMost(LIMIT).pollInterval(POLL)
                        .until(() -> lines(ledger).size() >= enough);
                if (kill % 2 == 0) {
                    host.kill();
                    host.startAgain();
                } else {
                    service.kill();
                    service.startAgain();
                }
            }
            await("all entries").atMost(LIMIT).pollInterval(POLL)
                    .until(() -> lines(ledger).stream().distinct().count() >= total);
        }
        examine(lines(ledger));
    }

    private static void examine(List<Line> lines) {
        Map<String, List<Integer>> numbers = new HashMap<>();
        Map<String, String> deliveries = new HashMap<>();
        for (Line line : lines) {
            String known = deliveries.putIfAbsent(line.key() + " " + line.number(), line.delivery());
            if (known == null) {
                numbers.computeIfAbsent(line.key(), key -> new ArrayList<>()).add(line.number());
            } else {
                assertThat(line.delivery()).as("a double of " + line).isEqualTo(known);
            }
        }
        assertThat(numbers).hasSize(KEYS);
        List<Integer> inOrder = Stream.iterate(0, number -> number + 1).limit(NUMBERS).toList();
        numbers.forEach((key, handled) -> assertThat(handled).as("the key " + key).isEqualTo(inOrder));
    }

    private static List<Line> lines(Path ledger) {
        try {
            String text = Files.exists(ledger) ? Files.readString(ledger) : "";
            // What stands behind the last end of a line is being written.
            return text.substring(0, text.lastIndexOf('\n') + 1).lines().map(Line::of).toList();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static void publish() {
        Map<String, Object> settings = Map.of("bootstrap.servers", Kafka.shared().bootstrap(),
                "enable.idempotence", "true", "linger.ms", "5");
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < NUMBERS; number++) {
                for (int key = 0; key < KEYS; key++) {
                    String body = "{\"key\":\"k-" + key + "\",\"number\":" + number + "}";
                    ProducerRecord<String, String> entry = new ProducerRecord<>("ledger", "k-" + key, body);
                    header(entry, "ce_specversion", "1.0");
                    header(entry, "ce_id", "k-" + key + "-" + number);
                    header(entry, "ce_type", "Entry");
                    header(entry, "ce_source", "test");
                    header(entry, "content-type", "application/json");
                    producer.send(entry);
                }
            }
            producer.flush();
        }
    }

    private static void header(ProducerRecord<String, String> entry, String name, String value) {
        entry.headers().add(name, value.getBytes(StandardCharsets.UTF_8));
    }
}
