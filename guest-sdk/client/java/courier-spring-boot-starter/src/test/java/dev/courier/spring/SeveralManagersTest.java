package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.zaxxer.hikari.HikariDataSource;
import dev.courier.Event;
import dev.courier.EventPublisher;
import dev.courier.OutboxException;
import dev.courier.PrimaryKey;
import dev.courier.Topic;
import dev.courier.testing.Postgres;
import java.util.List;
import java.util.function.Consumer;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.jackson.JacksonAutoConfiguration;
import org.springframework.boot.test.context.FilteredClassLoader;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.support.JdbcTransactionManager;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.support.AbstractPlatformTransactionManager;
import org.springframework.transaction.support.DefaultTransactionStatus;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionTemplate;

/** Messages within transactions of several managers, of which one is the outbox's. */
class SeveralManagersTest {
    private static final FakeHost HOST = new FakeHost();
    private static HikariDataSource orders;
    private static HikariDataSource audit;

    @Topic(name = "order")
    static class OrderCreated extends Event {
        @PrimaryKey
        String orderId;

        OrderCreated(String orderId) {
            this.orderId = orderId;
        }
    }

    /** Transactions of something that is no DataSource, as those of MongoDB are. */
    static final class DocumentTransactionManager extends AbstractPlatformTransactionManager {
        @Override
        protected Object doGetTransaction() {
            return new Object();
        }

        @Override
        protected void doBegin(Object transaction, TransactionDefinition definition) {
        }

        @Override
        protected void doCommit(DefaultTransactionStatus status) {
        }

        @Override
        protected void doRollback(DefaultTransactionStatus status) {
        }
    }

    @Configuration
    @EnableMessage
    static class Documents {
        @Bean
        DocumentTransactionManager documentsManager() {
            return new DocumentTransactionManager();
        }
    }

    @Configuration
    @EnableMessage
    static class Databases {
        @Bean(destroyMethod = "")
        DataSource orders() {
            return orders;
        }

        @Bean(destroyMethod = "")
        DataSource audit() {
            return audit;
        }

        @Bean
        JdbcTransactionManager ordersManager() {
            return new JdbcTransactionManager(orders);
        }

        @Bean(defaultCandidate = false)
        JdbcTransactionManager auditManager() {
            return new JdbcTransactionManager(audit);
        }

        @Bean
        DocumentTransactionManager documentsManager() {
            return new DocumentTransactionManager();
        }
    }

    private final ApplicationContextRunner runner = new ApplicationContextRunner()
            .withConfiguration(AutoConfigurations.of(JacksonAutoConfiguration.class, CourierAutoConfiguration.class))
            .withPropertyValues("courier.url=" + HOST.url());
    private final ApplicationContextRunner databases = runner.withUserConfiguration(Databases.class)
            .withPropertyValues("courier.outbox.data-source=orders", "courier.outbox.initialize-schema=always");

    private static HikariDataSource database() {
        HikariDataSource database = new HikariDataSource();
        database.setJdbcUrl(Postgres.shared().createDatabase().jdbcUrl());
        database.setMaximumPoolSize(3);
        return database;
    }

    @BeforeAll
    static void start() {
        orders = database();
        audit = database();
    }

    @AfterAll
    static void stop() {
        orders.close();
        audit.close();
        HOST.close();
    }

    @AfterEach
    void forget() {
        new JdbcTemplate(orders).execute("DROP TABLE IF EXISTS courier_outbox");
        HOST.forget();
        assertThat(TransactionSynchronizationManager.getResourceMap()).isEmpty();
    }

    private static void publish(String id) {
        EventPublisher.publish(new OrderCreated(id));
    }

    private static void within(PlatformTransactionManager manager, Runnable work) {
        new TransactionTemplate(manager).executeWithoutResult(status -> work.run());
    }

    private static void within(ApplicationContext context, String manager, Runnable work) {
        within(context.getBean(manager, PlatformTransactionManager.class), work);
    }

    private static List<String> keys() {
        return new JdbcTemplate(orders).queryForList("SELECT key FROM courier_outbox ORDER BY seq", String.class);
    }

    private static List<String> sent() {
        return HOST.published().stream().map(message -> message.get("key").asText()).toList();
    }

    private static void refused(Runnable publish) {
        assertThatThrownBy(publish::run).isInstanceOf(OutboxException.class)
                .hasMessageContaining("courier.outbox.data-source");
    }

    private void withDatabases(Consumer<ApplicationContext> test) {
        databases.run(context -> {
            assertThat(context).hasNotFailed();
            test.accept(context);
        });
    }

    @Test
    void aTransactionWithinOneOfTheOutboxTakesNoMessageThatWouldGoWithTheOuter() {
        withDatabases(context -> {
            for (String inner : List.of("auditManager", "documentsManager")) {
                within(context, "ordersManager", () -> within(context, inner, () -> refused(() -> publish("o-1"))));
            }
            // Nor one of a manager that is no bean.
            within(context, "ordersManager",
                    () -> within(new JdbcTransactionManager(audit), () -> refused(() -> publish("o-1"))));
            assertThat(keys()).isEmpty();
            assertThat(sent()).isEmpty();
        });
    }

    @Test
    void beforeAndAfterItTheOuterTransactionTakesItsOwn() {
        withDatabases(context -> {
            within(context, "ordersManager", () -> {
                publish("before");
                within(context, "auditManager", () -> { });
                publish("after");
            });
            assertThat(keys()).containsExactly("before", "after");
            assertThat(sent()).isEmpty();
        });
    }

    @Test
    void aTransactionOfTheOutboxWithinAnotherTakesItsOwn() {
        withDatabases(context -> {
            within(context, "auditManager", () -> {
                within(context, "ordersManager", () -> publish("inner"));
                refused(() -> publish("outer"));
            });
            assertThat(keys()).containsExactly("inner");
            assertThat(sent()).isEmpty();
        });
    }

    @Test
    void anInnerTransactionOfTheSameManagerTakesItsOwn() {
        withDatabases(context -> {
            TransactionTemplate inner =
                    new TransactionTemplate(context.getBean("ordersManager", PlatformTransactionManager.class));
            inner.setPropagationBehavior(TransactionDefinition.PROPAGATION_REQUIRES_NEW);
            within(context, "ordersManager",
                    () -> within(context, "auditManager",
                            () -> inner.executeWithoutResult(status -> publish("new"))));
            assertThat(keys()).containsExactly("new");
        });
    }

    @Test
    void aManagerThatIsInjectedByItsNameAloneIsListenedToAsWell() {
        databases.withPropertyValues("courier.outbox.data-source=audit").run(context -> {
            within(context, "auditManager", () -> TransactionSynchronizationManager.registerSynchronization(
                    new TransactionSynchronization() {
                        @Override
                        public void afterCommit() {
                            publish("after");
                        }
                    }));
            assertThat(sent()).containsExactly("after");
        });
    }

    @Test
    void withoutJdbcATransactionIsRefusedAsWell() {
        runner.withUserConfiguration(Documents.class)
                .withClassLoader(new FilteredClassLoader("org.springframework.jdbc", "org.springframework.orm"))
                .run(context -> {
                    assertThat(context).hasNotFailed().doesNotHaveBean(CourierAutoConfiguration.OutboxInUse.class);
                    within(context, "documentsManager", () -> refused(() -> publish("o-1")));
                    publish("o-2");
                    assertThat(sent()).containsExactly("o-2");
                });
        runner.withUserConfiguration(Documents.class).withPropertyValues("courier.outbox.enabled=false")
                .withClassLoader(new FilteredClassLoader("org.springframework.jdbc", "org.springframework.orm"))
                .run(context -> {
                    within(context, "documentsManager", () -> publish("o-3"));
                    assertThat(sent()).containsExactly("o-2", "o-3");
                });
    }
}
