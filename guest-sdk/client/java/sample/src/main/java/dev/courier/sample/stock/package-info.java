/** The stock service: it handles what the order service publishes. */
package dev.courier.sample.stock;
