package dev.courier.spring;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.courier.Reject;
import dev.courier.Retry;
import dev.courier.Unavailable;
import java.time.Duration;

/**
 * What became of a message, as the host is told.
 *
 * @param status  of HTTP; says the same as the verdict to who does not read it
 * @param verdict handled, error, retry, reject or unavailable
 * @param reason  why it was not handled
 * @param after   how long to wait, or null
 */
record Answer(int status, String verdict, String reason, Duration after) {
    static final String ERROR = "error";
    static final Answer HANDLED = new Answer(204, "handled", null, null);

    /** The answer to an exception of a handler. */
    static Answer thrown(Throwable thrown, Class<?> handler) {
        String reason = FailureReason.of(thrown, handler);
        if (thrown instanceof Retry retry) {
            return new Answer(500, "retry", reason, retry.after());
        } else if (thrown instanceof Reject) {
            return reject(reason);
        } else if (thrown instanceof Unavailable unavailable) {
            return new Answer(503, "unavailable", reason, unavailable.after());
        } else {
            // The binding's policy decides whether it runs again.
            return new Answer(500, ERROR, reason, null);
        }
    }

    /** Another attempt may end otherwise. */
    static Answer retry(String reason) {
        return new Answer(500, "retry", reason, null);
    }

    /** The message can never be handled here. */
    static Answer reject(String reason) {
        return new Answer(422, "reject", reason, null);
    }

    /** The request is wrong, whatever message it carries: the binding waits until somebody mends it. */
    static Answer unavailable(int status, String reason) {
        return new Answer(status, "unavailable", reason, null);
    }

    boolean handled() {
        return reason == null;
    }

    /** A problem document, with the fields that the host reads. */
    ObjectNode json(ObjectMapper mapper) {
        ObjectNode json = mapper.createObjectNode().put("verdict", verdict);
        if (!handled()) {
            json.put("title", "the message was not handled").put("status", status).put("reason", reason);
        }
        if (after != null) {
            json.put("after", Math.max(0, after.toMillis()) + "ms");
        }
        return json;
    }
}
