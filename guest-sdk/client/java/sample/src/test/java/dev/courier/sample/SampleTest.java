package dev.courier.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.courier.sample.order.OrderService;
import dev.courier.sample.price.PriceCache;
import dev.courier.sample.price.Prices;
import dev.courier.sample.stock.Stock;
import dev.courier.sample.stock.StockService;
import dev.courier.testing.CourierHost;
import dev.courier.testing.Kafka;
import dev.courier.testing.Postgres;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.web.context.WebServerApplicationContext;
import org.springframework.context.ConfigurableApplicationContext;

/**
 * The five kinds of message between the services of the sample, on a real Kafka and PostgreSQL, by two real hosts. The
 * hosts have the TOML that the services show at {@code /actuator/courier}, and nothing else.
 */
class SampleTest {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final String KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    private static final HttpClient HTTP = HttpClient.newHttpClient();
    private static final List<AutoCloseable> RUNNING = new ArrayList<>();

    private static ConfigurableApplicationContext orders;
    private static Stock stock;
    private static List<Prices> prices;
    private static List<CourierHost> hosts;

    @BeforeAll
    static void start() {
        Kafka.shared().createTopics(3, "order", "reminder", "price");
        Postgres.Database hostsStore = Postgres.shared().createDatabase();
        Postgres.Database shop = Postgres.shared().createDatabase();
        ConfigurableApplicationContext stocks = run(StockService.builder(), List.of());
        stock = stocks.getBean(Stock.class);
        List<ConfigurableApplicationContext> caches = Stream.of(1, 2)
                .map(number -> run(PriceCache.builder(), List.of())).toList();
        prices = caches.stream().map(cache -> cache.getBean(Prices.class)).toList();
        // The last that starts in this process is the one that static methods publish for. It does not know the
        // hosts' ports yet, and does not ask for them before the first message.
        String outbox = "[[outbox]]\nname = \"order-service\"\nurl = \"" + shop.courierUrl() + "\"\n";
        Map<String, String> environment = Map.of("COURIER_SIGNING_KEY", KEY);
        hosts = new ArrayList<>();
        for (ConfigurableApplicationContext cache : caches) {
            // Both nodes share the groups; each has a cache of its own beside it.
            CourierHost host = CourierHost.start("host-" + (hosts.size() + 1), hostsStore.courierUrl(),
                    outbox + toml(stocks) + toml(cache), environment);
            hosts.add(host);
            RUNNING.add(0, host);
        }
        orders = run(OrderService.builder(), List.of("--spring.datasource.url=" + shop.jdbcUrl(),
                "--spring.datasource.username=", "--courier.url=" + hosts.get(0).url()));
        assertThat(toml(orders)).contains("[[outbox]]\nname = \"order-service\"\nurl = \"postgres://");
        for (CourierHost host : hosts) {
            for (String group : List.of("stock", "payment", "price-cache")) {
                await().atMost(LIMIT).untilAsserted(() -> assertThat(standing(host, group)).isEqualTo("runs"));
            }
        }
    }

    private static ConfigurableApplicationContext run(SpringApplicationBuilder service, List<String> more) {
        List<String> arguments = new ArrayList<>(List.of("--server.port=0", "--spring.main.banner-mode=off",
                "--logging.level.root=warn", "--COURIER_SIGNING_KEY=" + KEY));
        arguments.addAll(more);
        ConfigurableApplicationContext context = service.run(arguments.toArray(String[]::new));
        RUNNING.add(0, context);
        return context;
    }

    private static int port(ConfigurableApplicationContext service) {
        return ((WebServerApplicationContext) service).getWebServer().getPort();
    }

    private static String toml(ConfigurableApplicationContext service) {
        HttpRequest.Builder request =
                HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port(service) + "/actuator/courier"));
        try {
            return new ObjectMapper().readTree(ask(request).body()).get("toml").asText() + "\n";
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** Whether a group runs on a host, or why not. */
    private static String standing(CourierHost host, String group) {
        for (JsonNode one : host.get("/v1/groups").get("items")) {
            if (one.get("group").asText().equals(group)) {
                return one.get("partitions").size() > 0 && !one.hasNonNull("cause") ? "runs" : one.toString();
            }
        }
        return "unknown";
    }

    @AfterAll
    static void stop() throws Exception {
        for (AutoCloseable one : RUNNING) {
            one.close();
        }
    }

    private static int put(String path) {
        URI uri = URI.create("http://127.0.0.1:" + port(orders) + path);
        return ask(HttpRequest.newBuilder(uri).PUT(BodyPublishers.noBody())).statusCode();
    }

    private static HttpResponse<String> ask(HttpRequest.Builder request) {
        try {
            return HTTP.send(request.build(), BodyHandlers.ofString());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(interrupted);
        }
    }

    private static String place(String id) {
        assertThat(put("/orders/" + id + "?article=tea&quantity=2")).isEqualTo(201);
        return id;
    }

    @Test
    void anEventIsHandledByTheGroupOnce() {
        String id = place("event-1");
        await().atMost(LIMIT).until(() -> stock.reservations().containsKey(id));
        assertThat(stock.reservations().get(id).quantity()).isEqualTo(2);
        assertThat(Collections.frequency(stock.created(), id)).isEqualTo(1);
    }

    @Test
    void anOrdersEventsAreHandledInTheirOrder() {
        List<String> ids = IntStream.range(0, 5).mapToObj(number -> place("ordered-" + number)).toList();
        int changes = 20;
        ids.parallelStream().forEach(id -> {
            for (int change = 1; change <= changes; change++) {
                assertThat(put("/orders/" + id + "/quantity?quantity=" + change)).isEqualTo(200);
            }
        });
        for (String id : ids) {
            await().atMost(LIMIT).until(() -> stock.reservations().containsKey(id)
                    && stock.reservations().get(id).quantity() == changes);
            assertThat(stock.reservations().get(id).versions())
                    .isEqualTo(IntStream.rangeClosed(0, changes).boxed().toList());
        }
    }

    @Test
    void anOrderThatIsNotStoredIsNotAnnounced() {
        assertThat(put("/orders/refused?article=tea&quantity=0")).isEqualTo(500);
        String later = place("after-refused");
        await().atMost(LIMIT).until(() -> stock.reservations().containsKey(later));
        assertThat(stock.created()).doesNotContain("refused");
        assertThat(hosts.get(0).get("/v1/messages?topic=order&key=refused").get("items")).isEmpty();
    }

    @Test
    void aBroadcastReachesEveryInstance() {
        assertThat(put("/prices/tea?cents=250")).isEqualTo(200);
        for (Prices cache : prices) {
            await().atMost(LIMIT).until(() -> Long.valueOf(250).equals(cache.of("tea")));
        }
    }

    @Test
    void aDelayedMessageComesWhenItIsDueAndNotBefore() {
        String id = place("delayed-1");
        await().atMost(LIMIT).until(() -> stock.reminders().containsKey(id));
        assertThat(stock.reminders().get(id)).isGreaterThanOrEqualTo(Duration.ofSeconds(2));
    }

    @Test
    void aRejectedMessageSaysWhy() {
        assertThat(put("/orders/rejected-1?article=typewriter&quantity=1")).isEqualTo(201);
        String deliveries = "/v1/deliveries?group=stock&state=HANDLE_FAIL&key=rejected-1";
        await().atMost(LIMIT).until(() -> hosts.get(0).get(deliveries).get("items").size() == 1);
        JsonNode delivery = hosts.get(0).get(deliveries).get("items").get(0);
        assertThat(delivery.get("reason").asText()).contains("there are no more of typewriter");
        assertThat(delivery.get("verdict").asText()).isEqualTo("reject");
    }
}
