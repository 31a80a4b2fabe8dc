package courier.bench;

import org.springframework.data.jpa.repository.JpaRepository;

interface Deliveries extends JpaRepository<Delivery, Delivery.Place> {}
