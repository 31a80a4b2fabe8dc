package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.PrimaryKey;
import dev.courier.Topic;
import jakarta.persistence.Entity;
import jakarta.persistence.EntityListeners;
import jakarta.persistence.EntityManager;
import jakarta.persistence.Id;
import jakarta.persistence.PostPersist;
import jakarta.persistence.PostUpdate;
import jakarta.persistence.PreUpdate;
import jakarta.persistence.Table;
import jakarta.transaction.Synchronization;
import javax.sql.DataSource;
import org.hibernate.engine.spi.SessionImplementor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.beans.factory.annotation.Qualifier;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.autoconfigure.domain.EntityScan;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.dao.DataIntegrityViolationException;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.support.JdbcTransactionManager;
import org.springframework.test.context.DynamicPropertyRegistry;
import org.springframework.test.context.DynamicPropertySource;
import org.springframework.transaction.support.TransactionTemplate;

/** Messages that listeners of entities publish while JPA commits: it writes what has changed only then. */
@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.NONE, properties = {
    "spring.application.name=shop",
    "spring.jpa.hibernate.ddl-auto=create",
    "courier.outbox.initialize-schema=always",
    "logging.level.org.hibernate=error"})
class CommitFlushTest {
    private static final FakeHost HOST = new FakeHost();

    @Topic(name = "parcel")
    static class ParcelChanged extends Event {
        @PrimaryKey
        String what;

        ParcelChanged(String what) {
            this.what = what;
        }
    }

    @Entity
    @Table(name = "parcel")
    @EntityListeners(Listener.class)
    static class Parcel {
        @Id
        String id;
        String place;
    }

    static class Listener {
        @PostPersist
        void persisted(Parcel parcel) {
            EventPublisher.publish(new ParcelChanged("persisted-" + parcel.id));
        }

        @PreUpdate
        void updating(Parcel parcel) {
            EventPublisher.publish(new ParcelChanged("updating-" + parcel.id));
        }

        @PostUpdate
        void updated(Parcel parcel) {
            EventPublisher.publish(new ParcelChanged("updated-" + parcel.id));
        }
    }

    @Configuration
    @EnableAutoConfiguration
    @EnableMessage
    @Import(PlainTransactions.class)
    @EntityScan(basePackageClasses = CommitFlushTest.class)
    static class Application {
    }

    /** Transactions of JDBC alone, beside those of JPA. */
    @Configuration
    static class PlainTransactions {
        @Bean(defaultCandidate = false)
        JdbcTransactionManager plainTransactionManager(DataSource dataSource) {
            return new JdbcTransactionManager(dataSource);
        }
    }

    @DynamicPropertySource
    static void servers(DynamicPropertyRegistry registry) {
        HOST.register(registry);
    }

    @AfterAll
    static void stop() {
        HOST.close();
    }

    @Autowired
    private JdbcTemplate jdbc;
    @Autowired
    private TransactionTemplate transaction;
    @Autowired
    private EntityManager entities;
    @Autowired
    @Qualifier("plainTransactionManager")
    private JdbcTransactionManager manager;

    @BeforeEach
    void forget() {
        HOST.forget();
        jdbc.execute("TRUNCATE courier_outbox, parcel");
    }

    private static Parcel parcel(String id) {
        Parcel parcel = new Parcel();
        parcel.id = id;
        return parcel;
    }

    private String keys() {
        return jdbc.queryForObject("SELECT coalesce(string_agg(key, ' ' ORDER BY seq), '') FROM courier_outbox",
                String.class);
    }

    private String sent() {
        return String.join(" ", HOST.published().stream().map(message -> message.get("key").asText()).toList());
    }

    @Test
    void whatIsPublishedDuringTheFlushOfTheCommitIsPartOfIt() {
        transaction.executeWithoutResult(status -> entities.persist(parcel("p-1")));
        transaction.executeWithoutResult(status -> entities.find(Parcel.class, "p-1").place = "harbour");
        assertThat(keys()).isEqualTo("persisted-p-1 updating-p-1 updated-p-1");
        assertThat(sent()).isEmpty();
    }

    @Test
    void anEntityManagerThatHasNoTransactionOfItsOwnDecidesNothing() {
        TransactionTemplate plain = new TransactionTemplate(manager);
        plain.executeWithoutResult(status -> {
            assertThat(entities.find(Parcel.class, "p-1")).isNull();
            EventPublisher.publish(new ParcelChanged("plain"));
        });
        assertThat(keys()).isEqualTo("plain");
        assertThat(sent()).isEmpty();
    }

    @Test
    void aTransactionOfJdbcWithinOneOfJpaHasTheSameConnection() {
        TransactionTemplate plain = new TransactionTemplate(manager);
        transaction.executeWithoutResult(outer ->
                plain.executeWithoutResult(inner -> EventPublisher.publish(new ParcelChanged("plain"))));
        assertThat(keys()).isEqualTo("plain");
        assertThat(sent()).isEmpty();
    }

    @Test
    void aFlushThatFailsSendsNothing() {
        jdbc.update("INSERT INTO parcel (id) VALUES ('p-3')");
        assertThatThrownBy(() -> transaction.executeWithoutResult(status -> {
            entities.persist(parcel("p-2"));
            entities.persist(parcel("p-3"));
        })).isInstanceOf(DataIntegrityViolationException.class);
        assertThat(keys()).isEmpty();
        assertThat(sent()).isEmpty();
    }

    @Test
    void whatIsPublishedAfterTheCommitOfHibernateGoesToTheHost() {
        transaction.executeWithoutResult(status -> entities.unwrap(SessionImplementor.class).getTransaction()
                .registerSynchronization(new Synchronization() {
                    @Override
                    public void beforeCompletion() {
                        EventPublisher.publish(new ParcelChanged("before"));
                    }

                    @Override
                    public void afterCompletion(int status) {
                        EventPublisher.publish(new ParcelChanged("after"));
                    }
                }));
        assertThat(keys()).isEqualTo("before");
        assertThat(sent()).isEqualTo("after");
    }
}
