package dev.courier.spring;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import dev.courier.WebhookSignature;
import dev.courier.testing.Postgres;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.springframework.test.context.DynamicPropertyRegistry;

/** Stands where the host does: takes what is published, and calls handlers as http-push does. */
public final class FakeHost implements AutoCloseable {
    /** The key that it signs with. */
    public static final String KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final HttpServer server;
    private final HttpClient http = HttpClient.newHttpClient();
    private final List<JsonNode> published = new CopyOnWriteArrayList<>();

    /** What a handler's endpoint answered. */
    public record Answer(int status, String type, String body) {
        /** The body as JSON. */
        public JsonNode json() {
            try {
                return JSON.readTree(body);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    /** Starts it. */
    public FakeHost() {
        try {
            server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        server.createContext("/v1/messages", exchange -> {
            JsonNode message = JSON.readTree(exchange.getRequestBody().readAllBytes());
            published.add(message);
            byte[] answer = ("{\"id\":" + message.get("id") + ",\"state\":\"COMMITTED\"}")
                    .getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(202, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.start();
    }

    /** Where it listens. */
    public String url() {
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    /** Names this host and a database of its own in the properties of an application. */
    public void register(DynamicPropertyRegistry registry) {
        Postgres.Database database = Postgres.shared().createDatabase();
        registry.add("spring.datasource.url", database::jdbcUrl);
        registry.add("courier.url", this::url);
    }

    /** What was published since the last {@link #forget}. */
    public List<JsonNode> published() {
        return published;
    }

    /** Forgets what was published. */
    public void forget() {
        published.clear();
    }

    /** A CloudEvent as http-push makes them. */
    public static String event(String group, String topic, String type, String data) {
        return "{\"specversion\":\"1.0\",\"id\":\"m-1\",\"source\":\"shop\",\"type\":\"" + type
                + "\",\"time\":\"2026-01-31T08:00:00.000000Z\",\"partitionkey\":\"o-1\",\"couriergroup\":\"" + group
                + "\",\"couriertopic\":\"" + topic + "\",\"courierkind\":\"event\",\"courierdelivery\":\"12-345\","
                + "\"courierattempt\":2,\"datacontenttype\":\"application/json\",\"data\":" + data + "}";
    }

    /** Calls an endpoint with a signed event. */
    public Answer push(String url, String body) {
        return push(url, body, KEY, Clock.systemUTC(), Map.of("content-type", "application/cloudevents+json"));
    }

    /** Calls an endpoint with a signature by a key at a time; without one if the key is null. */
    public Answer push(String url, String body, String key, Clock clock, Map<String, String> headers) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).POST(BodyPublishers.ofString(body));
        headers.forEach(request::header);
        if (key != null) {
            String time = String.valueOf(clock.instant().getEpochSecond());
            WebhookSignature signature = new WebhookSignature(List.of(key), Duration.ofMinutes(5), clock);
            request.header("webhook-id", "12-345").header("webhook-timestamp", time).header("webhook-signature",
                    signature.sign("12-345", time, body.getBytes(StandardCharsets.UTF_8)));
        }
        return ask(request);
    }

    /** Asks with GET. */
    public Answer get(String url) {
        return ask(HttpRequest.newBuilder(URI.create(url)).GET());
    }

    private Answer ask(HttpRequest.Builder request) {
        try {
            HttpResponse<String> answer = http.send(request.build(), BodyHandlers.ofString());
            return new Answer(answer.statusCode(), answer.headers().firstValue("content-type").orElse(null),
                    answer.body());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(interrupted);
        }
    }

    @Override
    public void close() {
        server.stop(0);
    }
}
