/** Kafka, PostgreSQL and Courier's host as processes of a test run. */
package dev.courier.testing;
