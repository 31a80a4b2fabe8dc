package dev.courier.spring;

import java.util.function.BooleanSupplier;
import org.springframework.core.Ordered;
import org.springframework.transaction.TransactionExecution;
import org.springframework.transaction.TransactionExecutionListener;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;
import org.springframework.util.ClassUtils;

/**
 * Tells whether the thread's transaction can still take a row.
 *
 * <p>Spring says that a transaction is active until all callbacks after its commit have run. A row that is written in
 * such a callback belongs to no transaction that commits, and would be lost without a word.
 */
final class TransactionPhase implements TransactionExecutionListener {
    private static final boolean WITH_JPA = ClassUtils.isPresent("org.springframework.orm.jpa.EntityManagerHolder",
            TransactionPhase.class.getClassLoader());

    @Override
    public void afterBegin(TransactionExecution transaction, Throwable beginFailure) {
        if (beginFailure == null && TransactionSynchronizationManager.isSynchronizationActive()) {
            TransactionSynchronizationManager.registerSynchronization(
                    new Mark(WITH_JPA ? JpaPhase.isOver() : () -> false));
        }
    }

    /** Whether a transaction is open that has not committed yet. */
    static boolean takesRows() {
        if (!TransactionSynchronizationManager.isActualTransactionActive()
                || !TransactionSynchronizationManager.isSynchronizationActive()) {
            return false;
        }
        return TransactionSynchronizationManager.getSynchronizations().stream()
                .noneMatch(one -> one instanceof Mark mark && mark.isOver());
    }

    /**
     * Notes that the transaction has committed, before all other callbacks hear of it.
     *
     * <p>Not in {@code beforeCompletion}: JPA writes what has changed after that, within the commit itself, and what
     * its listeners publish then is part of the commit. There is nothing to note of a rollback, since Spring calls
     * the callbacks after it outside of any transaction.
     */
    private static final class Mark implements TransactionSynchronization {
        private final BooleanSupplier jpaIsOver;
        private boolean committed;

        private Mark(BooleanSupplier jpaIsOver) {
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
        public void afterCommit() {
            committed = true;
        }
    }
}
