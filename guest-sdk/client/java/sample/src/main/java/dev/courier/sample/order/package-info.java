/** The order service: it publishes, within transactions and outside of them. */
package dev.courier.sample.order;
