import type { Attempt, BatchHandler, Capability, Context, Handler, Header, Message } from "./index.js";

/** A message and its surroundings; everything has a default. */
export interface Given {
  id?: string;
  key?: string | Uint8Array | null;
  source?: string;
  topic?: string;
  type?: string;
  kind?: Message["kind"];
  time?: Date;
  contentType?: string;
  /** Bytes as they are, `null` for a tombstone, anything else as JSON. */
  body?: unknown;
  headers?: Record<string, string | Uint8Array | null>;
  attempt?: Partial<Attempt>;
  config?: Record<string, string>;
  secrets?: Record<string, string>;
  state?: Record<string, unknown>;
  cache?: Record<string, unknown>;
  /** What the binding does not grant. */
  deny?: Capability[];
}

export interface Seen {
  published: { topic: string; type: string; key: string | null; contentType: string; body: any; headers: Header[] }[];
  logs: { level: "debug" | "info" | "warn" | "error"; text: string }[];
  state: Record<string, any>;
  cache: Record<string, any>;
}

export interface Outcome extends Seen {
  verdict: "success" | "error" | "retry" | "reject" | "unavailable";
  reason: string | null;
  afterMs: number | null;
}

/** Delivers one message as the host does, and tells what came of it. */
export function deliver(handler: Handler<any>, given?: Given): Promise<Outcome>;

/**
 * Delivers several messages to a batch handler in one call. Rejects when the call fails as
 * a whole: the host would then run each message alone.
 */
export function deliverBatch(handler: BatchHandler<any>, given: Given[]): Promise<Outcome[]>;

/** A context of its own, to call a function that takes one. */
export function context(given?: Given): { ctx: Context; seen(): Seen };
