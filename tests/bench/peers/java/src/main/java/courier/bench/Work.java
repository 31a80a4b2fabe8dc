package courier.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;

/** The handler, which every Java peer calls for each record. */
final class Work {
    /** Invocations of a message that keeps failing, and the pause between them. */
    static final int ATTEMPTS = 3;
    static final long RETRY_MS = 20;

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private Work() {}

    /** What the handler says of a record that it does not take. */
    static final class Failed extends Exception {
        Failed(String reason) {
            super(reason);
        }
    }

    static void handle(byte[] key, byte[] body) throws Exception {
        Contract.CALLS.increment();
        switch (Contract.WORK) {
            case "none" -> {}
            case "json" -> validate(body);
            case "failing" -> {
                if (fails(key)) {
                    throw new Failed("this key always fails");
                }
            }
            case "effect" -> HTTP.send(request(key, body), BodyHandlers.discarding());
            default -> throw new IllegalStateException("BENCH_WORK is " + Contract.WORK);
        }
    }

    /** The same for a caller that has many records to handle at once. */
    static CompletableFuture<Void> handleLater(byte[] key, byte[] body) {
        try {
            if (Contract.WORK.equals("effect")) {
                Contract.CALLS.increment();
                return HTTP.sendAsync(request(key, body), BodyHandlers.discarding()).thenApply(answer -> null);
            }
            handle(key, body);
            return CompletableFuture.completedFuture(null);
        } catch (Exception failure) {
            return CompletableFuture.failedFuture(failure);
        }
    }

    /** One key in a hundred: the keys are three digits after a word. */
    private static boolean fails(byte[] key) {
        return key[key.length - 1] == '0' && key[key.length - 2] == '0';
    }

    private static void validate(byte[] body) throws Exception {
        JsonNode order = JSON.readTree(body);
        if (!order.path("sequence").isIntegralNumber()) {
            throw new Failed("sequence is no whole number");
        }
        if (order.path("key").asText("").isEmpty()) {
            throw new Failed("key is empty");
        }
        if (order.path("amount").asDouble(0) <= 0) {
            throw new Failed("amount is not above zero");
        }
        if (!order.path("items").isArray() || order.path("items").isEmpty()) {
            throw new Failed("items is empty");
        }
    }

    private static HttpRequest request(byte[] key, byte[] body) throws Exception {
        var sequence = JSON.readTree(body).path("sequence").asLong();
        var url = Contract.EFFECTS + "/?key=" + new String(key) + "&sequence=" + sequence;
        return HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(5)).build();
    }
}
