package dev.courier.sample.order;

import jakarta.persistence.LockModeType;
import java.util.Optional;
import org.springframework.data.jpa.repository.JpaRepository;
import org.springframework.data.jpa.repository.Lock;

interface OrderRepository extends JpaRepository<Order, String> {
    /** Locks the order, so that changes of one order commit in the order of their versions. */
    @Lock(LockModeType.PESSIMISTIC_WRITE)
    Optional<Order> findOneById(String id);
}
