package dev.courier.spring;

import jakarta.persistence.EntityTransaction;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.springframework.orm.jpa.EntityManagerHolder;
import org.springframework.transaction.support.TransactionSynchronizationManager;

/** Tells how far JPA's own transaction is; used only where Spring's support of JPA is there. */
final class JpaPhase {
    private JpaPhase() {
    }

    /**
     * Whether JPA has ended a transaction that is open now, asked at any time after its begin.
     *
     * <p>Callbacks of Hibernate's own after its commit run before those of Spring. The connection is still that of the
     * transaction, so a row would be written, and rolled back when the connection goes back to its pool.
     */
    static BooleanSupplier isOver() {
        List<EntityTransaction> begun = TransactionSynchronizationManager.getResourceMap().values().stream()
                .flatMap(JpaPhase::active).toList();
        return () -> begun.stream().anyMatch(one -> !one.isActive());
    }

    private static Stream<EntityTransaction> active(Object resource) {
        if (!(resource instanceof EntityManagerHolder holder)) {
            return Stream.empty();
        }
        try {
            return Stream.of(holder.getEntityManager().getTransaction()).filter(EntityTransaction::isActive);
        } catch (IllegalStateException jta) {
            // JTA's transactions are none of the EntityManager's.
            return Stream.empty();
        }
    }
}
