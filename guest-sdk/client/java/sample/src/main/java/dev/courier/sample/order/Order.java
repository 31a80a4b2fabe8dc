package dev.courier.sample.order;

import jakarta.persistence.Entity;
import jakarta.persistence.Id;
import jakarta.persistence.Table;

@Entity
@Table(name = "shop_order")
class Order {
    @Id
    private String id;
    private String article;
    private int quantity;
    private int version;

    /** For JPA. */
    protected Order() {
    }

    Order(String id, String article, int quantity) {
        this.id = id;
        this.article = article;
        this.quantity = quantity;
    }

    void amend(int newQuantity) {
        quantity = newQuantity;
        version++;
    }

    String id() {
        return id;
    }

    String article() {
        return article;
    }

    int quantity() {
        return quantity;
    }

    int version() {
        return version;
    }
}
