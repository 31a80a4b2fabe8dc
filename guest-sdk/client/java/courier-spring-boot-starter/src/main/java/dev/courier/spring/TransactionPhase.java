package dev.courier.spring;

import org.springframework.transaction.TransactionExecution;
import org.springframework.transaction.TransactionExecutionListener;
import org.springframework.transaction.support.TransactionSynchronization;
import org.springframework.transaction.support.TransactionSynchronizationManager;

/**
 * Tells whether the thread's transaction can still take a row.
 *
 * <p>Spring says that a transaction is active until all callbacks after its commit have run. A row that is written in
 * such a callback belongs to no transaction that commits, and would be lost without a word.
 */
final class TransactionPhase implements TransactionExecutionListener {
    @Override
    public void afterBegin(TransactionExecution transaction, Throwable beginFailure) {
        if (beginFailure == null && TransactionSynchronizationManager.isSynchronizationActive()) {
            TransactionSynchronizationManager.registerSynchronization(new Mark());
        }
    }

    /** Whether a transaction is open whose commit has not begun. */
    static boolean takesRows() {
        if (!TransactionSynchronizationManager.isActualTransactionActive()
                || !TransactionSynchronizationManager.isSynchronizationActive()) {
            return false;
        }
        return TransactionSynchronizationManager.getSynchronizations().stream()
                .noneMatch(one -> one instanceof Mark mark && mark.ending);
    }

    /** Notes that the transaction ends. */
    private static final class Mark implements TransactionSynchronization {
        private boolean ending;

        @Override
        public void beforeCompletion() {
            ending = true;
        }
    }
}
