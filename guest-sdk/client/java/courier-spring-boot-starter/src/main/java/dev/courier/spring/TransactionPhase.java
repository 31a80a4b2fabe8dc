package dev.courier.spring;

import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.springframework.core.Ordered;
import org.springframework.transaction.TransactionExecution;
import org.springframework.transaction.TransactionExecutionListener;
import org.springframework.transaction.TransactionManager;
import org.springframework.transaction.support.ResourceTransactionManager;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.transaction.support.TransactionSynchronizationUtils;
import org.springframework.util.ClassUtils;

/**
 * Tells whether the thread's transaction can still take a row, and what belongs to it.
 *
 * <p>Spring says that a transaction is active until all callbacks after its commit have run. A row that is written in
 * such a callback belongs to no transaction that commits, and would be lost without a word.
 *
 * <p>A transaction within one of another manager suspends the callbacks of the outer one, but leaves its connection
 * bound to the thread. A row on that connection would commit with the outer transaction, whatever becomes of the inner.
 */
final class TransactionPhase implements TransactionExecutionListener {
    private static final boolean WITH_JPA =
            Stream.of("org.springframework.orm.jpa.EntityManagerHolder", "jakarta.persistence.EntityTransaction")
                    .allMatch(name -> ClassUtils.isPresent(name, TransactionPhase.class.getClassLoader()));

    private final TransactionManager manager;

    /**
     * Listens to a manager.
     *
     * @param manager begins transactions
     */
    TransactionPhase(TransactionManager manager) {
        this.manager = manager;
    }

    @Override
    public void afterBegin(TransactionExecution transaction, Throwable beginFailure) {
        if (beginFailure == null && TransactionSynchronizationManager.isSynchronizationActive()) {
            TransactionSynchronizationManager.registerSynchronization(
                    new Mark(manager, WITH_JPA ? JpaPhase.isOver() : () -> false));
        }
    }

    /** Whether a transaction is open that has not committed yet. */
    static boolean takesRows() {
        if (!TransactionSynchronizationManager.isActualTransactionActive()
                || !TransactionSynchronizationManager.isSynchronizationActive()) {
            return false;
        }
        return marks().noneMatch(Mark::isOver);
    }

    /**
     * Whether what is bound to the thread belongs to its transaction, and not to one that waits for the end of that.
     *
     * @param resource what is bound, for example a holder of a connection
     * @param factory  what it is of, for example the DataSource
     */
    static boolean has(Object resource, Object factory) {
        boolean suspended = TransactionSynchronizationManager.getResourceMap().values().stream()
                .anyMatch(one -> one instanceof Suspended outer && outer.resources().contains(resource));
        // Transactions of JDBC within one of JPA have the same connection.
        return !suspended || marks().anyMatch(mark -> mark.manager instanceof ResourceTransactionManager own
                && TransactionSynchronizationUtils.sameResourceFactory(own, factory));
    }

    private static Stream<Mark> marks() {
        return TransactionSynchronizationManager.getSynchronizations().stream()
                .filter(Mark.class::isInstance).map(Mark.class::cast);
    }

    /** What was bound to the thread when a transaction was suspended. */
    private record Suspended(Set<Object> resources) {
    }

    /**
     * Notes that the transaction has committed, before all other callbacks hear of it.
     *
     * <p>Not in {@code beforeCompletion}: JPA writes what has changed after that, within the commit itself, and what
     * its listeners publish then is part of the commit. There is nothing to note of a rollback, since Spring calls
     * the callbacks after it outside of any transaction.
     */
    private static final class Mark implements TransactionSynchronization {
        private final TransactionManager manager;
        private final BooleanSupplier jpaIsOver;
        private boolean committed;

        private Mark(TransactionManager manager, BooleanSupplier jpaIsOver) {
            this.manager = manager;
            this.jpaIsOver = jpaIsOver;
        }

        private boolean isOver() {
            return committed || jpaIsOver.getAsBoolean();
        }

        @Override
        public int getOrder() {
            return Ordered.HIGHEST_PRECEDENCE;
        }

        @Override
        public void suspend() {
            Set<Object> resources = Collections.newSetFromMap(new IdentityHashMap<>());
            resources.addAll(TransactionSynchronizationManager.getResourceMap().values());
            TransactionSynchronizationManager.bindResource(this, new Suspended(resources));
        }

        @Override
        public void resume() {
            TransactionSynchronizationManager.unbindResourceIfPossible(this);
        }

        @Override
        public void afterCommit() {
            committed = true;
        }
    }
}
