/** A duration: `"500ms"`, `"5s"`, `"2m"`, `"1h"`, or milliseconds. */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;

/** What a handler may use of the host; the component imports that and no more. */
export type Capability = "publish" | "state" | "cache" | "config" | "http" | "log";

export interface HandlerOptions {
  /** The consumer group; the plugin's name otherwise. */
  group?: string;
  /** The topics it wants to be bound to. */
  topics?: string[];
  /** The types of message it handles; all without it. */
  types?: string[];
  /** The topics it publishes to: the printed binding grants them. */
  publishes?: string[];
  /** The hosts that it asks, as `api.example.com:443`: the printed binding allows them. */
  http?: string[];
  /** What it uses of the host. Without it the builder looks which of the words stand in the sources. */
  uses?: Capability[];
  /** How the body becomes the event: by its content type (`auto`), or always one of the others. */
  decode?: "auto" | "json" | "text" | "bytes";
  /** Whether it handles tombstones, with `null` as the event; they are rejected otherwise. */
  tombstones?: boolean;
}

export interface Header {
  name: string;
  /** `null` when the header has no value, which is not an empty one. */
  value: Uint8Array | null;
}

/** A message as it stands in the log. */
export interface Message {
  readonly id: string;
  readonly key: Uint8Array | null;
  readonly keyText: string | null;
  readonly source: string;
  readonly topic: string;
  readonly type: string;
  readonly kind: "event" | "broadcast";
  readonly time: Date;
  readonly timeMicros: number;
  readonly contentType: string;
  /** `null` in a tombstone. */
  readonly body: Uint8Array | null;
  readonly isTombstone: boolean;
  readonly headers: Header[];
  text(): string;
  /** The body as JSON; integers beyond 2^53 are `bigint`. */
  json(): unknown;
  /** The first header of this name as text. */
  header(name: string): string | undefined;
}

/** One invocation of the handler for one message. */
export interface Attempt {
  readonly group: string;
  /** The same over all attempts: a good idempotency key. */
  readonly delivery: string;
  readonly number: number;
  readonly counted: number;
  readonly maxAttempts: number;
  readonly partition: number;
  /** Exact up to 2^53. */
  readonly offset: number;
  readonly deadline: Date;
}

export interface Outgoing {
  topic: string;
  /** What happened, for example `StockReserved`. */
  type: string;
  key?: string | number | bigint | Uint8Array | null;
  /** Bytes go as they are, `null` is a tombstone, anything else is JSON. With a `contentType` a text goes as it is. */
  body: unknown;
  contentType?: string;
  headers?: Record<string, string | Uint8Array | null> | [string, string | Uint8Array | null][];
}

/** Keys and values; those that are no bytes are JSON. */
export interface Store {
  get<T = unknown>(key: string): T | undefined;
  getText(key: string): string | undefined;
  getBytes(key: string): Uint8Array | undefined;
  set(key: string, value: unknown): void;
  delete(key: string): void;
}

export interface Log {
  (...values: unknown[]): void;
  debug(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
}

export interface FailureOptions {
  /** How long to wait; the binding's schedule decides without it. */
  after?: Duration;
  cause?: unknown;
}

/** The message and the attempt at hand, and everything that a handler may do. */
export interface Context {
  readonly message: Message;
  readonly attempt: Attempt;
  /** Publishes a message when this attempt succeeds; returns the id that it will have. */
  publish(message: Outgoing): string;
  /** The group's state, written when this attempt succeeds. */
  readonly state: Store;
  /** The cache of the group's handlers on one node, written at once. */
  readonly cache: Store;
  /** A value of `[binding.config]`. */
  config(key: string): string | undefined;
  /** A value of `[binding.secrets]`. */
  secret(key: string): string | undefined;
  readonly log: Log;
  /** `throw ctx.retry("..", { after: "5s" })` asks for another attempt. */
  retry(reason: string, options?: FailureOptions): Failure;
  /** `throw ctx.reject("..")`: it can never succeed. */
  reject(reason: string, options?: { cause?: unknown }): Failure;
  /** `throw ctx.unavailable("..")`: what it depends on is down; the binding pauses. */
  unavailable(reason: string, options?: FailureOptions): Failure;
  /** The response if its status says success; throws what should follow otherwise. */
  expectOk<R extends { ok: boolean; status: number; headers: { get(name: string): string | null } }>(response: R): R;
}

export class Failure extends Error {
  readonly verdict: "retry" | "reject" | "unavailable";
  readonly afterMs: number | null;
}

/**
 * A call that the host refused. Left uncaught it becomes the reason; one with the code
 * `unavailable`, which the host could not do now, pauses the binding.
 */
export class RefusalError extends Error {
  readonly code: "denied" | "limit" | "invalid" | "unavailable";
}

export interface Handler<E = any> {
  (event: E, ctx: Context): Promise<void>;
  readonly options: Readonly<HandlerOptions>;
}

/** Declares a handler: export it as the module's default. */
export function handler<E = any>(options: HandlerOptions, handle: (event: E, ctx: Context) => unknown): Handler<E>;
export function handler<E = any>(handle: (event: E, ctx: Context) => unknown): Handler<E>;

/** A message of a batch: what was sent, and a context of its own. */
export interface Item<E = any> {
  readonly event: E;
  readonly ctx: Context;
}

/** What became of an item: an error is a failure, nothing a success. */
export type ItemOutcome = Error | undefined | null;

export interface BatchHandler<E = any> {
  (items: Item<E>[]): ItemOutcome[] | Promise<ItemOutcome[]>;
  readonly options: Readonly<HandlerOptions>;
}

/**
 * Declares a handler of several messages at a time: export it as the module's default. It
 * returns one outcome for each item, in their order. What it throws ends the whole call,
 * and the host runs each message alone.
 */
export function batchHandler<E = any>(
  options: HandlerOptions,
  handle: (items: Item<E>[]) => ItemOutcome[] | Promise<ItemOutcome[]>,
): BatchHandler<E>;
export function batchHandler<E = any>(handle: (items: Item<E>[]) => ItemOutcome[] | Promise<ItemOutcome[]>): BatchHandler<E>;

export function retry(reason: string, options?: FailureOptions): Failure;
export function reject(reason: string, options?: { cause?: unknown }): Failure;
export function unavailable(reason: string, options?: FailureOptions): Failure;
