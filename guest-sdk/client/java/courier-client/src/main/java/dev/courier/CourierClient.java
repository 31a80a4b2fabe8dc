package dev.courier;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Supplier;

/**
 * Publishes messages through a host, over HTTP. It gives each message an id before it sends it, and tries again with
 * that id while the cause can pass: no connection, no answer, a host whose store is away. However often a message is
 * sent, it is one message. An instance may be used by any number of threads.
 */
public final class CourierClient implements Publisher {
    /** How long a message is tried in all, unless the builder says otherwise. */
    public static final Duration DEFAULT_TIMEOUT = Duration.ofSeconds(15);
    /**
     * How long one try may take, unless the builder says otherwise: a host answers within a second, whatever Kafka
     * does, and within five when its store is slow.
     */
    public static final Duration DEFAULT_TRY_TIMEOUT = Duration.ofSeconds(8);
    /** How long a connection may take, unless the builder says otherwise. */
    public static final Duration DEFAULT_CONNECT_TIMEOUT = Duration.ofSeconds(2);

    private static final Duration PAUSE_FIRST = Duration.ofMillis(50);
    private static final Duration PAUSE_LONGEST = Duration.ofSeconds(2);
    private static final int ACCEPTED = 202;
    private static final int NOT_FOUND = 404;
    private static final int NOT_IMPLEMENTED = 501;
    private static final int SERVER_ERRORS = 500;

    private final HttpClient http;
    private final URI messages;
    private final String token;
    private final String source;
    private final Duration timeout;
    private final Duration tryTimeout;
    private final ObjectMapper mapper;
    private final Supplier<String> traceparent;

    private CourierClient(Builder builder) {
        http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(builder.connectTimeout)
                .followRedirects(HttpClient.Redirect.NEVER).build();
        messages = messages(builder.url);
        token = builder.token;
        source = builder.source;
        timeout = builder.timeout;
        tryTimeout = builder.tryTimeout;
        mapper = builder.mapper == null ? MessageJson.defaultMapper() : builder.mapper;
        traceparent = builder.traceparent;
    }

    private static URI messages(String url) {
        URI base;
        try {
            base = URI.create(url);
        } catch (IllegalArgumentException error) {
            throw new IllegalArgumentException("the host " + url + " is no URL: " + error.getMessage(), error);
        }
        boolean web = "http".equals(base.getScheme()) || "https".equals(base.getScheme());
        if (!web || base.getHost() == null) {
            throw new IllegalArgumentException("the host " + url + " is no http or https URL, as "
                    + "http://127.0.0.1:7070 is");
        }
        return URI.create(url.replaceAll("/+$", "") + "/v1/messages");
    }

    /**
     * Begins a client.
     *
     * @param url the host, for example {@code http://127.0.0.1:7070}
     * @return what builds it
     */
    public static Builder builder(String url) {
        return new Builder(url);
    }

    /**
     * A client without a token, with the time-outs that are usual.
     *
     * @param url    the host, for example {@code http://127.0.0.1:7070}
     * @param source the name of the sending service
     * @return the client
     */
    public static CourierClient of(String url, String source) {
        return builder(url).source(source).build();
    }

    @Override
    public String source() {
        return source;
    }

    @Override
    public Draft draft(Message message) {
        Draft draft = MessageJson.draft(mapper, message);
        String trace = traceparent.get();
        return trace == null ? draft : draft.withHeader("traceparent", trace);
    }

    @Override
    public Receipt send(Draft draft) {
        String body = MessageJson.request(mapper, draft, source);
        HttpRequest.Builder request = request(messages).header("content-type", "application/json")
                .POST(BodyPublishers.ofString(body));
        String trace = traceparent.get();
        if (trace != null) {
            request.header("traceparent", trace);
        }
        Attempts attempts = new Attempts(timeout);
        // What the host said last is kept: the last try is often a short one that gets no answer.
        Problem problem = null;
        while (true) {
            String why;
            Exception cause = null;
            try {
                HttpResponse<String> answer = attempts.ask(request);
                if (answer.statusCode() == ACCEPTED) {
                    return receipt(answer.body());
                }
                Problem said = Problem.parse(answer.statusCode(), answer.body());
                problem = said == null ? problem : said;
                if (!passes(answer.statusCode())) {
                    throw PublishRefusedException.of("message " + draft, answer.statusCode(), said);
                }
                why = said == null ? "the host answered " + answer.statusCode() : said.describe();
            } catch (IOException error) {
                why = describe(error) + (problem == null ? "" : "; before that: " + problem.describe());
                cause = error;
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw new PublishTimeoutException(draft, attempts.made, "interrupted", null, interrupted);
            }
            if (!attempts.rest()) {
                throw new PublishTimeoutException(draft, attempts.made, why, problem, cause);
            }
        }
    }

    /**
     * Writes a message into the outbox, within a transaction of the service's own: it is published if and only if
     * that commits.
     *
     * @param outbox     the outbox of the connection's database
     * @param connection in a transaction
     * @param message    the object
     * @return the message's id, with the state {@link Receipt.State#IN_TRANSACTION}
     * @throws OutboxException when the row cannot be written
     */
    public Receipt publishIn(Outbox outbox, java.sql.Connection connection, Message message) {
        Draft draft = draft(message);
        outbox.insert(connection, draft, source);
        return new Receipt(draft.id(), Receipt.State.IN_TRANSACTION, false);
    }

    /**
     * Cancels a delayed message that is not due yet.
     *
     * @param id the message
     * @return false when the host knows no such message
     * @throws PublishRefusedException a {@link MessageConflictException} when it is too late
     */
    public boolean cancel(String id) {
        HttpResponse<String> answer = exchange(request(message(id)).DELETE(), "the cancellation of " + id);
        return answer.statusCode() != NOT_FOUND;
    }

    /**
     * Asks what became of a message.
     *
     * @param id the message
     * @return the host's answer with the deliveries; empty when it knows no such message
     */
    public Optional<JsonNode> ask(String id) {
        HttpResponse<String> answer = exchange(request(message(id)).GET(), "the question for " + id);
        try {
            return answer.statusCode() == NOT_FOUND ? Optional.empty() : Optional.of(mapper.readTree(answer.body()));
        } catch (JsonProcessingException error) {
            throw new java.io.UncheckedIOException("the answer of " + messages + " is not a host's", error);
        }
    }

    private HttpResponse<String> exchange(HttpRequest.Builder request, String what) {
        Attempts attempts = new Attempts(timeout);
        while (true) {
            IOException failure;
            try {
                HttpResponse<String> answer = attempts.ask(request);
                int status = answer.statusCode();
                if (status == NOT_FOUND || status >= 200 && status < 300) {
                    return answer;
                }
                Problem problem = Problem.parse(status, answer.body());
                if (!passes(status)) {
                    throw PublishRefusedException.of(what, status, problem);
                }
                failure = new IOException("the host answered " + status
                        + (problem == null ? "" : ": " + problem.describe()));
            } catch (IOException error) {
                failure = error;
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                throw new java.io.UncheckedIOException(new java.io.InterruptedIOException("interrupted at " + what));
            }
            if (!attempts.rest()) {
                throw new java.io.UncheckedIOException(
                        "gave up on " + what + " after " + attempts.made + " tries: " + describe(failure), failure);
            }
        }
    }

    private HttpRequest.Builder request(URI uri) {
        HttpRequest.Builder request = HttpRequest.newBuilder(uri);
        if (token != null) {
            request.header("authorization", "Bearer " + token);
        }
        return request;
    }

    private URI message(String id) {
        return URI.create(messages + "/" + URLEncoder.encode(id, StandardCharsets.UTF_8).replace("+", "%20"));
    }

    private Receipt receipt(String body) throws IOException {
        JsonNode json = mapper.readTree(body);
        String state = json.path("state").asText();
        if (!json.hasNonNull("id") || !(state.equals("COMMITTED") || state.equals("SEND_FAIL"))) {
            // Something between this service and the host answered.
            throw new IOException("the answer is not a host's");
        }
        return new Receipt(json.get("id").asText(), Receipt.State.valueOf(state), json.path("retrying").asBoolean());
    }

    /** Whether what this status says may pass by itself. */
    private static boolean passes(int status) {
        return status >= SERVER_ERRORS && status != NOT_IMPLEMENTED || status == 408 || status == 425 || status == 429;
    }

    /** The exception in a line, with its causes, since the outermost often has no message. */
    private static String describe(Throwable error) {
        StringBuilder words = new StringBuilder();
        for (Throwable at = error; at != null; at = at.getCause()) {
            String message = at.getMessage() == null ? at.getClass().getSimpleName() : at.getMessage();
            if (words.indexOf(message) < 0) {
                words.append(words.isEmpty() ? "" : ": ").append(message);
            }
        }
        return words.toString();
    }

    /** The tries of one request, and the pauses between them. */
    private final class Attempts {
        private final long deadline;
        private Duration pause = PAUSE_FIRST;
        private int made;

        private Attempts(Duration timeout) {
            deadline = System.nanoTime() + timeout.toNanos();
        }

        /** One try, no longer than what is left of the time. */
        private HttpResponse<String> ask(HttpRequest.Builder request) throws IOException, InterruptedException {
            made++;
            Duration left = Duration.ofNanos(Math.max(deadline - System.nanoTime(), PAUSE_FIRST.toNanos()));
            Duration limit = left.compareTo(tryTimeout) < 0 ? left : tryTimeout;
            // HttpRequest has a time-out of its own, which ends with the headers, and a body may stop half-way.
            CompletableFuture<HttpResponse<String>> answer =
                    http.sendAsync(request.build(), BodyHandlers.ofString());
            try {
                return answer.get(limit.toMillis(), TimeUnit.MILLISECONDS);
            } catch (TimeoutException late) {
                throw new HttpTimeoutException("no whole answer in " + limit.toMillis() + " ms");
            } catch (ExecutionException failed) {
                Throwable cause = failed.getCause();
                throw cause instanceof IOException error ? error : new IOException(cause);
            } finally {
                answer.cancel(true);
            }
        }

        /** Waits, a little at random so that senders do not come back all at once; false when the time is up. */
        private boolean rest() {
            long wait = (long) (pause.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1.0));
            Duration doubled = pause.multipliedBy(2);
            pause = doubled.compareTo(PAUSE_LONGEST) < 0 ? doubled : PAUSE_LONGEST;
            if (deadline - System.nanoTime() <= wait) {
                return false;
            }
            try {
                Thread.sleep(Duration.ofNanos(wait).toMillis());
                return true;
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
                return false;
            }
        }
    }

    /** Builds a client. */
    public static final class Builder {
        private final String url;
        private String token;
        private String source;
        private Duration timeout = DEFAULT_TIMEOUT;
        private Duration tryTimeout = DEFAULT_TRY_TIMEOUT;
        private Duration connectTimeout = DEFAULT_CONNECT_TIMEOUT;
        private ObjectMapper mapper;
        private Supplier<String> traceparent = () -> null;

        private Builder(String url) {
            this.url = Objects.requireNonNull(url, "url");
        }

        /**
         * Shows a token to the host.
         *
         * @param token the token, or null for none
         * @return this builder
         */
        public Builder token(String token) {
            this.token = token;
            return this;
        }

        /**
         * Names the sending service; without it, the host takes the token's name.
         *
         * @param source the name
         * @return this builder
         */
        public Builder source(String source) {
            this.source = source;
            return this;
        }

        /**
         * How long a message is tried in all before {@link PublishTimeoutException}.
         *
         * @param timeout 15 s unless set
         * @return this builder
         */
        public Builder timeout(Duration timeout) {
            this.timeout = timeout;
            return this;
        }

        /**
         * How long one try may take.
         *
         * @param tryTimeout 8 s unless set
         * @return this builder
         */
        public Builder tryTimeout(Duration tryTimeout) {
            this.tryTimeout = tryTimeout;
            return this;
        }

        /**
         * How long a connection may take.
         *
         * @param connectTimeout 2 s unless set
         * @return this builder
         */
        public Builder connectTimeout(Duration connectTimeout) {
            this.connectTimeout = connectTimeout;
            return this;
        }

        /**
         * Writes bodies with a mapper of the service's own.
         *
         * @param mapper the mapper
         * @return this builder
         */
        public Builder mapper(ObjectMapper mapper) {
            this.mapper = mapper;
            return this;
        }

        /**
         * Tells the trace that a message belongs to.
         *
         * @param traceparent gives the {@code traceparent} of W3C Trace Context, or null outside of a trace
         * @return this builder
         */
        public Builder traceparent(Supplier<String> traceparent) {
            this.traceparent = traceparent;
            return this;
        }

        /**
         * Builds the client.
         *
         * @return the client
         * @throws IllegalArgumentException when the URL is none that HTTP can ask
         */
        public CourierClient build() {
            return new CourierClient(this);
        }
    }
}
