/**
 * Publishes messages through Courier.
 *
 * {@link Publisher} is what a service holds; {@link Message} is what it sends,
 * {@link Receipt} what it is told, and the errors say what it can do when that
 * fails.
 */
export { Publisher } from "./publisher.js";
export type { CallOptions, PublisherOptions, Which } from "./publisher.js";
export { Draft, event } from "./message.js";
export type { EventOptions, HeaderValue, Message } from "./message.js";
export { CourierError, GaveUpError, InvalidError, RefusedError } from "./errors.js";
export type { Problem } from "./errors.js";
export type { Attempt, Delivery, MessageView, PlaceView, Receipt } from "./answers.js";
export { outboxInsert } from "./outbox.js";
export type { Dialect, Insert, OutboxOptions, PostgresTransaction, SqliteTransaction } from "./outbox.js";
