package dev.courier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.IntFunction;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What a client asks of a host over HTTP, and what it makes of the answers. */
class CourierClientTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String TAKEN = "{\"id\":\"m-1\",\"state\":\"COMMITTED\"}";

    private final List<JsonNode> requests = new CopyOnWriteArrayList<>();
    private final List<String> heads = new CopyOnWriteArrayList<>();
    private IntFunction<Answer> answers = number -> new Answer(202, TAKEN);
    private HttpServer server;
    private CourierClient client;

    private record Answer(int status, String body) {
    }

    @Topic(name = "order")
    static class OrderCreated extends Event {
        @PrimaryKey
        String orderId = "o-1";
        String orderName = "tea";
        Date createdAt = new Date(0);
        private boolean ownGetterIsNotAField = true;

        String getSomething() {
            return "not in the body";
        }

        boolean own() {
            return ownGetterIsNotAField;
        }
    }

    @Topic(name = "price", type = "price.changed")
    static class PriceChanged extends Broadcast {
        long cents = 250;
    }

    @Topic(name = "order")
    static class Nothing extends Event {
    }

    @BeforeEach
    void serve() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", exchange -> {
            byte[] body = exchange.getRequestBody().readAllBytes();
            heads.add(exchange.getRequestMethod() + " " + exchange.getRequestURI() + " "
                    + exchange.getRequestHeaders().getFirst("authorization") + " "
                    + exchange.getRequestHeaders().getFirst("traceparent"));
            requests.add(JSON.readTree(body));
            Answer answer = answers.apply(requests.size());
            byte[] bytes = answer.body().getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(answer.status(), bytes.length == 0 ? -1 : bytes.length);
            exchange.getResponseBody().write(bytes);
            exchange.close();
        });
        server.start();
        String url = "http://127.0.0.1:" + server.getAddress().getPort() + "/";
        client = CourierClient.builder(url).source("shop").token("secret").timeout(Duration.ofSeconds(5))
                .traceparent(() -> "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").build();
    }

    @AfterEach
    void stop() {
        server.stop(0);
    }

    @Test
    void anEventIsPostedWithItsFieldsAsTheBodyAndItsPrimaryKeyAsTheKey() {
        OrderCreated event = new OrderCreated();
        Receipt receipt = client.publish(event);
        assertThat(receipt).isEqualTo(new Receipt("m-1", Receipt.State.COMMITTED, false));
        JsonNode sent = requests.get(0);
        assertThat(sent.get("topic").asText()).isEqualTo("order");
        assertThat(sent.get("type").asText()).isEqualTo("OrderCreated");
        assertThat(sent.get("key").asText()).isEqualTo("o-1");
        assertThat(sent.get("source").asText()).isEqualTo("shop");
        assertThat(sent.get("body").toString()).isEqualTo("{\"orderId\":\"o-1\",\"orderName\":\"tea\","
                + "\"createdAt\":\"1970-01-01T00:00:00.000+00:00\",\"ownGetterIsNotAField\":true}");
        assertThat(sent.has("kind") || sent.has("delay") || sent.has("deliver_at")).isFalse();
        assertThat(heads.get(0)).isEqualTo("POST /v1/messages Bearer secret "
                + "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assertThat(sent.at("/headers/traceparent").asText()).startsWith("00-0af7651916cd43dd8448eb211c80319c");
        assertThat(event.header().id()).isEqualTo(sent.get("id").asText());
        assertThat(event.header().primaryKey()).isEqualTo("o-1");
        assertThat(event.header().service()).isEqualTo("shop");
        assertThat(event.header().topic()).isEqualTo("order");
        assertThat(event.header().timeStamp()).isNotNull();
    }

    @Test
    void aBroadcastADelayAndATimeAreSaid() {
        client.publish(new PriceChanged());
        assertThat(requests.get(0).get("kind").asText()).isEqualTo("broadcast");
        assertThat(requests.get(0).get("type").asText()).isEqualTo("price.changed");
        assertThat(requests.get(0).has("key")).isFalse();
        client.publish(new OrderCreated(), Duration.ofNanos(1_000_001));
        assertThat(requests.get(1).get("delay").asText()).isEqualTo("2ms");
        client.publishAt(new OrderCreated(), Instant.ofEpochSecond(0, 1_001));
        assertThat(requests.get(2).get("deliver_at").asText()).isEqualTo("1970-01-01T00:00:00.000002Z");
        client.publish(new Nothing());
        assertThat(requests.get(3).get("body").toString()).isEqualTo("{}");
        client.send(client.draft(new OrderCreated()).withId("mine").withHeader("a", "1").withHeader("a", "2"));
        assertThat(requests.get(4).get("id").asText()).isEqualTo("mine");
        assertThat(requests.get(4).at("/headers/a").toString()).isEqualTo("[\"1\",\"2\"]");
    }

    @Test
    void whatMayPassIsTriedAgainWithTheSameId() {
        answers = number -> number < 4 ? new Answer(new int[] {503, 429, 502}[number - 1], "<html>") : new Answer(202, TAKEN);
        client.publish(new OrderCreated());
        assertThat(requests).hasSize(4);
        assertThat(requests).extracting(request -> request.get("id").asText()).containsOnly(
                requests.get(0).get("id").asText());
    }

    @Test
    void aMessageThatTheHostTakesAndCannotSendYetIsTaken() {
        answers = number -> new Answer(202, "{\"id\":\"m-1\",\"state\":\"SEND_FAIL\",\"retrying\":true}");
        assertThat(client.publish(new OrderCreated())).isEqualTo(new Receipt("m-1", Receipt.State.SEND_FAIL, true));
    }

    @Test
    void aRefusalIsAnExceptionWithTheProblemDocument() {
        answers = number -> new Answer(422, "{\"type\":\"about:blank\",\"title\":\"body breaks the schema\","
                + "\"status\":422,\"detail\":\"/cents is no number\",\"id\":\"m-1\"}");
        PublishRefusedException refused = catchThrowableOfType(PublishRefusedException.class,
                () -> client.publish(new OrderCreated()));
        assertThat(refused.status()).isEqualTo(422);
        assertThat(refused.problem().title()).isEqualTo("body breaks the schema");
        assertThat(refused.problem().detail()).isEqualTo("/cents is no number");
        assertThat(refused.problem().json().get("id").asText()).isEqualTo("m-1");
        assertThat(refused).hasMessageContaining("body breaks the schema: /cents is no number");
        assertThat(requests).hasSize(1);
        answers = number -> new Answer(409, "{\"title\":\"id is taken\",\"status\":409}");
        assertThatThrownBy(() -> client.publish(new OrderCreated())).isInstanceOf(MessageConflictException.class);
        answers = number -> new Answer(401, "{\"title\":\"no token\",\"status\":401}");
        assertThatThrownBy(() -> client.publish(new OrderCreated())).isInstanceOf(NotAuthorizedException.class);
        answers = number -> new Answer(404, "nothing here");
        assertThatThrownBy(() -> client.publish(new OrderCreated())).isInstanceOf(PublishRefusedException.class)
                .hasMessageContaining("404");
    }

    @Test
    void whoGivesUpHasTheMessageToSendAgain() {
        answers = number -> new Answer(503, "{\"title\":\"the store is away\",\"status\":503}");
        CourierClient hasty = CourierClient.builder("http://127.0.0.1:" + server.getAddress().getPort())
                .timeout(Duration.ofSeconds(2)).build();
        PublishTimeoutException gaveUp = catchThrowableOfType(PublishTimeoutException.class,
                () -> hasty.publish(new OrderCreated()));
        assertThat(gaveUp).hasMessageContaining("the store is away");
        assertThat(gaveUp.problem().title()).isEqualTo("the store is away");
        assertThat(gaveUp.tries()).isGreaterThan(1);
        answers = number -> new Answer(202, TAKEN);
        client.send(gaveUp.draft());
        assertThat(requests).extracting(request -> request.get("id").asText()).containsOnly(gaveUp.draft().id());
    }

    @Test
    void aHostThatNeverAnswersAndOneThatIsNotThereAreGivenUpInTime() throws IOException {
        try (ServerSocket silent = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            CourierClient asking = CourierClient.builder("http://127.0.0.1:" + silent.getLocalPort())
                    .timeout(Duration.ofMillis(400)).tryTimeout(Duration.ofMillis(150)).build();
            assertThatThrownBy(() -> asking.publish(new OrderCreated())).isInstanceOf(PublishTimeoutException.class)
                    .hasMessageContaining("no whole answer in");
        }
        try (ServerSocket halting = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            Thread half = new Thread(() -> answerHalf(halting));
            half.start();
            CourierClient asking = CourierClient.builder("http://127.0.0.1:" + halting.getLocalPort())
                    .timeout(Duration.ofMillis(400)).tryTimeout(Duration.ofMillis(300)).build();
            assertThatThrownBy(() -> asking.publish(new OrderCreated())).isInstanceOf(PublishTimeoutException.class);
        }
        int nobody;
        try (ServerSocket closed = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            nobody = closed.getLocalPort();
        }
        CourierClient asking = CourierClient.builder("http://127.0.0.1:" + nobody)
                .timeout(Duration.ofMillis(300)).build();
        assertThatThrownBy(() -> asking.publish(new OrderCreated())).isInstanceOf(PublishTimeoutException.class)
                .hasMessageMatching(".*(ConnectException|no whole answer).*");
    }

    /** Sends the head of an answer and half of its body, until the socket is closed. */
    private static void answerHalf(ServerSocket server) {
        try (Socket connection = server.accept()) {
            connection.getOutputStream().write("HTTP/1.1 202 Accepted\r\ncontent-length: 90\r\n\r\n{\"id\""
                    .getBytes(StandardCharsets.UTF_8));
            connection.getInputStream().transferTo(OutputStream.nullOutputStream());
        } catch (IOException closed) {
            // The client or the test has gone, which ends this.
        }
    }

    @Test
    void anAnswerThatIsNoHostsIsNotTakenForOne() {
        answers = number -> number == 1 ? new Answer(202, "{\"ok\":true}") : new Answer(202, TAKEN);
        assertThat(client.publish(new OrderCreated()).id()).isEqualTo("m-1");
        assertThat(requests).hasSize(2);
    }

    @Test
    void aMessageCanBeAskedForAndCancelled() {
        answers = number -> new Answer(200, "{\"id\":\"a b\",\"state\":\"COMMITTED\"}");
        assertThat(client.ask("a b").orElseThrow().get("state").asText()).isEqualTo("COMMITTED");
        assertThat(client.cancel("a b")).isTrue();
        assertThat(heads.get(0)).startsWith("GET /v1/messages/a%20b ");
        assertThat(heads.get(1)).startsWith("DELETE /v1/messages/a%20b ");
        answers = number -> new Answer(404, "{\"title\":\"no such message\",\"status\":404}");
        assertThat(client.ask("x")).isEmpty();
        assertThat(client.cancel("x")).isFalse();
        answers = number -> new Answer(409, "{\"title\":\"it is due\",\"status\":409}");
        assertThatThrownBy(() -> client.cancel("x")).isInstanceOf(MessageConflictException.class)
                .hasMessageContaining("it is due");
    }

    @Test
    void anAddressThatIsNoneIsRefused() {
        for (String url : List.of("localhost:7070", "ftp://host", "http:///x", "http://a b")) {
            assertThatThrownBy(() -> CourierClient.of(url, "shop")).isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining(url);
        }
    }
}
