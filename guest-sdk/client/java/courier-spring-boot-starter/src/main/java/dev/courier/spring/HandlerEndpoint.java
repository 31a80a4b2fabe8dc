package dev.courier.spring;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import dev.courier.WebhookSignature;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.List;

/**
 * The HTTP endpoint at which the host's plugin {@code http-push} calls the handlers.
 *
 * <p>It is a filter and stands before those of Spring Security, which know neither the host nor its signature: a
 * request is let in by the signature alone.
 */
final class HandlerEndpoint implements Filter {
    private static final String ONE = "application/cloudevents+json";
    private static final String BATCH = "application/cloudevents-batch+json";
    private static final String PROBLEM = "application/problem+json";
    private static final String JSON = "application/json";

    private final MessageDispatcher dispatcher;
    private final WebhookSignature signature;
    private final ObjectMapper mapper;
    private final int maxBody;

    /**
     * An endpoint.
     *
     * @param dispatcher calls the handlers
     * @param signature  checks requests; null if they need no signature
     * @param mapper     writes answers
     * @param maxBody    bytes of the largest body
     */
    HandlerEndpoint(MessageDispatcher dispatcher, WebhookSignature signature, ObjectMapper mapper, int maxBody) {
        this.dispatcher = dispatcher;
        this.signature = signature;
        this.mapper = mapper;
        this.maxBody = maxBody;
    }

    @Override
    public void doFilter(ServletRequest servletRequest, ServletResponse servletResponse, FilterChain others)
            throws IOException, ServletException {
        HttpServletRequest request = (HttpServletRequest) servletRequest;
        HttpServletResponse response = (HttpServletResponse) servletResponse;
        if (!"POST".equals(request.getMethod())) {
            response.setHeader("allow", "POST");
            write(response, Answer.unavailable(405, "the handlers are called by POST, not " + request.getMethod()));
            return;
        }
        byte[] body = request.getInputStream().readNBytes(maxBody + 1);
        if (body.length > maxBody) {
            // The rest is not read, so nothing else can come over this connection.
            response.setHeader("connection", "close");
            write(response, new Answer(413, "reject", "the request is larger than " + maxBody
                    + " bytes: see courier.handlers.max-body", null));
            return;
        }
        String refusal = signature == null ? null : signature.refusal(request.getHeader("webhook-id"),
                request.getHeader("webhook-timestamp"), request.getHeader("webhook-signature"), body);
        if (refusal != null) {
            write(response, Answer.unavailable(401, refusal));
            return;
        }
        answer(request, response, body);
    }

    private void answer(HttpServletRequest request, HttpServletResponse response, byte[] body) throws IOException {
        String type = request.getContentType() == null ? "" : request.getContentType().split(";", 2)[0].trim();
        boolean batch = type.equalsIgnoreCase(BATCH);
        if (!batch && !type.equalsIgnoreCase(ONE)) {
            write(response, Answer.unavailable(415, "the handlers take structured CloudEvents: give the binding a "
                    + "signing_key, or mode = \"structured\""));
            return;
        }
        List<CloudEvent> events;
        try {
            events = batch ? CloudEvent.batch(body) : List.of(CloudEvent.one(body));
        } catch (JsonProcessingException error) {
            write(response, Answer.unavailable(400, "the body is no CloudEvent in JSON: "
                    + error.getOriginalMessage()));
            return;
        }
        if (!batch) {
            List<Answer> answers = new java.util.ArrayList<>();
            TraceContext.within(request.getHeader("traceparent"),
                    () -> answers.add(dispatcher.dispatch(events.get(0))));
            write(response, answers.get(0));
            return;
        }
        ArrayNode answers = mapper.createArrayNode();
        events.forEach(event -> TraceContext.within(event.attribute("traceparent"),
                () -> answers.add(dispatcher.dispatch(event).json(mapper))));
        write(response, HttpServletResponse.SC_OK, JSON, answers);
    }

    private void write(HttpServletResponse response, Answer answer) throws IOException {
        if (answer.handled()) {
            response.setStatus(answer.status());
        } else {
            write(response, answer.status(), PROBLEM, answer.json(mapper));
        }
    }

    private void write(HttpServletResponse response, int status, String type, JsonNode json) throws IOException {
        byte[] bytes = mapper.writeValueAsBytes(json);
        response.setStatus(status);
        response.setContentType(type);
        response.setContentLength(bytes.length);
        response.getOutputStream().write(bytes);
    }
}
