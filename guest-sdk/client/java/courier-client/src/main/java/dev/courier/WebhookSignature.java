package dev.courier;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Checks that a request comes from a host that has the key, as Standard Webhooks describes: HMAC-SHA-256 over the id,
 * the time and the body. Several keys may be good at once, for a rotation.
 */
public final class WebhookSignature {
    private static final String PREFIX = "whsec_";
    private static final String VERSION = "v1,";
    private static final String ALGORITHM = "HmacSHA256";
    private static final int KEY_BYTES_LEAST = 24;
    private static final int KEY_BYTES_MOST = 64;
    /** A host sends one for each of its keys, of which a rotation needs two. */
    private static final int SIGNATURES_MOST = 8;

    private final List<SecretKeySpec> keys;
    private final Duration tolerance;
    private final Clock clock;

    /**
     * Checks signatures.
     *
     * @param keys      each {@code whsec_} and base64 of 24 to 64 bytes
     * @param tolerance how far the time of a request may be from the clock
     * @param clock     the clock
     */
    public WebhookSignature(List<String> keys, Duration tolerance, Clock clock) {
        this.keys = keys.stream().map(WebhookSignature::key).toList();
        this.tolerance = tolerance;
        this.clock = clock;
        if (keys.isEmpty()) {
            throw new IllegalArgumentException("a signature needs a key");
        }
    }

    private static SecretKeySpec key(String text) {
        byte[] key;
        try {
            key = Base64.getDecoder().decode(text.startsWith(PREFIX) ? text.substring(PREFIX.length()) : "?");
        } catch (IllegalArgumentException error) {
            // The text is a secret, so the message has nothing of it.
            throw new IllegalArgumentException("the signing key is not " + PREFIX + " and base64");
        }
        if (key.length < KEY_BYTES_LEAST || key.length > KEY_BYTES_MOST) {
            throw new IllegalArgumentException("the signing key has " + key.length + " bytes: make it of "
                    + KEY_BYTES_LEAST + " to " + KEY_BYTES_MOST + " random ones");
        }
        return new SecretKeySpec(key, ALGORITHM);
    }

    /**
     * Checks a request.
     *
     * @param id        the header {@code webhook-id}
     * @param timestamp the header {@code webhook-timestamp}
     * @param signature the header {@code webhook-signature}
     * @param body      the body as it came
     * @return null when it is good, else what is wrong
     */
    public String refusal(String id, String timestamp, String signature, byte[] body) {
        if (id == null || timestamp == null || signature == null) {
            return "the request is not signed: give the binding the secret `signing_key`";
        }
        Instant time;
        try {
            time = Instant.ofEpochSecond(Long.parseLong(timestamp));
        } catch (NumberFormatException | java.time.DateTimeException error) {
            return "webhook-timestamp is not a number of seconds";
        }
        // Compared with bounds, since a difference of any two times may not fit a Duration.
        Instant now = clock.instant();
        if (time.isBefore(now.minus(tolerance)) || time.isAfter(now.plus(tolerance))) {
            return "webhook-timestamp is more than " + tolerance.toSeconds()
                    + " s from this service's clock, or the request is replayed";
        }
        String[] parts = signature.split(" ", SIGNATURES_MOST + 1);
        if (parts.length > SIGNATURES_MOST) {
            return "webhook-signature has more than " + SIGNATURES_MOST + " signatures";
        }
        boolean good = false;
        for (SecretKeySpec key : keys) {
            // Once for a key, however many signatures came: whoever sends them has shown no key yet, and the body
            // may be large.
            byte[] expected = (VERSION + sign(key, id, timestamp, body)).getBytes(StandardCharsets.UTF_8);
            for (String part : parts) {
                // Constant time, and all pairs: the time tells nothing of the signature.
                good |= MessageDigest.isEqual(expected, part.getBytes(StandardCharsets.UTF_8));
            }
        }
        return good ? null : "the signature is of another key";
    }

    /**
     * Signs a request with each key, as a host does.
     *
     * @param id        the header {@code webhook-id}
     * @param timestamp the header {@code webhook-timestamp}
     * @param body      the body
     * @return the header {@code webhook-signature}
     */
    public String sign(String id, String timestamp, byte[] body) {
        List<String> parts = new ArrayList<>();
        for (SecretKeySpec key : keys) {
            parts.add(VERSION + sign(key, id, timestamp, body));
        }
        return String.join(" ", parts);
    }

    private static String sign(SecretKeySpec key, String id, String timestamp, byte[] body) {
        try {
            Mac mac = Mac.getInstance(ALGORITHM);
            mac.init(key);
            mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
            return Base64.getEncoder().encodeToString(mac.doFinal(body));
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException("every Java has " + ALGORITHM, impossible);
        }
    }
}
