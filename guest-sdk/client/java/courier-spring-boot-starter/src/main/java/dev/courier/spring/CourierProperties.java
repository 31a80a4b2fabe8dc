package dev.courier.spring;

import java.time.Duration;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;
import org.springframework.util.unit.DataSize;

/**
 * The configuration of a service that sends or handles messages.
 *
 * @param url            Address of the Courier host.
 * @param token          Token to show to the host, if it wants one.
 * @param source         Name of this service, as others see it. The default is spring.application.name.
 * @param timeout        How long a message is tried in all before publishing fails.
 * @param tryTimeout     How long one try may take.
 * @param connectTimeout How long connecting to the host may take.
 * @param outbox         Messages within transactions.
 * @param handlers       Handlers of messages.
 */
@ConfigurationProperties("courier")
public record CourierProperties(
        @DefaultValue("http://127.0.0.1:7070") String url,
        String token,
        String source,
        @DefaultValue("15s") Duration timeout,
        @DefaultValue("8s") Duration tryTimeout,
        @DefaultValue("2s") Duration connectTimeout,
        @DefaultValue Outbox outbox,
        @DefaultValue Handlers handlers) {

    // Without the token, which belongs in no log.
    @Override
    public String toString() {
        return "CourierProperties[url=" + url + ", source=" + source + "]";
    }

    /**
     * Messages within transactions.
     *
     * @param enabled          Whether a message that is published within a transaction is a row of the outbox. If not,
     *                         it goes to the host at once, whether the transaction commits or not.
     * @param table            Name of the outbox table, with its schema before a dot if it has one.
     * @param initializeSchema Whether to create the outbox table at start, if it is not there.
     * @param dataSource       Name of the DataSource bean whose transactions messages belong to, if there are several.
     */
    public record Outbox(
            @DefaultValue("true") boolean enabled,
            @DefaultValue("courier_outbox") String table,
            @DefaultValue("never") InitializeSchema initializeSchema,
            String dataSource) {
    }

    /** Whether the outbox table is created at start. */
    public enum InitializeSchema {
        /** Flyway, Liquibase or a person creates it. */
        NEVER,
        /** It is created if it is not there. */
        ALWAYS
    }

    /**
     * Handlers of messages.
     *
     * @param path               Path at which the host calls the handlers.
     * @param url                Whole URL of that path, as the host reaches it. The default is this machine's localhost.
     * @param signingKey         Key that the host signs requests with: whsec_ and base64 of 24 to 64 random bytes.
     * @param previousSigningKey Key that is good as well, while keys are rotated.
     * @param unsigned           Whether requests need no signature; for development.
     * @param tolerance          How far the time of a request may be from this service's clock.
     * @param maxBody            Size of the largest request that is read.
     */
    public record Handlers(
            @DefaultValue("/courier") String path,
            String url,
            String signingKey,
            String previousSigningKey,
            @DefaultValue("false") boolean unsigned,
            @DefaultValue("5m") Duration tolerance,
            @DefaultValue("16MB") DataSize maxBody) {

        // Without the keys, which belong in no log.
        @Override
        public String toString() {
            return "Handlers[path=" + path + ", url=" + url + ", unsigned=" + unsigned + "]";
        }
    }
}
