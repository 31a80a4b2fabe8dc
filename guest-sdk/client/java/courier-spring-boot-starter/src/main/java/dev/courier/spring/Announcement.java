package dev.courier.spring;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.context.event.ApplicationReadyEvent;
import org.springframework.context.ApplicationListener;

/** Logs at start what the host's configuration needs for this service. */
final class Announcement implements ApplicationListener<ApplicationReadyEvent> {
    private static final Logger LOG = LoggerFactory.getLogger(Announcement.class);

    private final HandlerRegistry registry;
    private final HostConfiguration host;
    private final boolean served;

    /**
     * Knows what to log.
     *
     * @param registry the handlers
     * @param host     writes the TOML
     * @param served   whether there is an endpoint at which the handlers are called
     */
    Announcement(HandlerRegistry registry, HostConfiguration host, boolean served) {
        this.registry = registry;
        this.host = host;
        this.served = served;
    }

    @Override
    public void onApplicationEvent(ApplicationReadyEvent event) {
        if (registry.hasHandlers() && !served) {
            LOG.warn("{} handlers of messages found that nobody can call, since this application serves no HTTP by "
                    + "servlets: add spring-boot-starter-web", registry.methods().size());
            return;
        }
        String toml = host.toml();
        if (!toml.isEmpty()) {
            LOG.info("Courier's host needs this in courier.toml for this service, unless it is there:\n\n{}", toml);
        }
    }
}
