/**
 * Sends and handles Courier's messages in a Spring Boot service.
 *
 * <p>{@link dev.courier.spring.EnableMessage} turns it on, {@link dev.courier.EventPublisher} sends, and a bean with
 * {@link dev.courier.spring.EventHandler} handles.
 */
package dev.courier.spring;
