import { setTimeout as sleep } from "node:timers/promises";

import { messageView, type MessageView, type Receipt } from "./answers.js";
import { CourierError, GaveUpError, InvalidError, RefusedError } from "./errors.js";
import { ask, parse, problemOf, readPublished, type Request } from "./http.js";
import { Draft, type Message } from "./message.js";
import { publishIn, type PostgresTransaction, type SqliteTransaction } from "./outbox.js";

/** How long a message is tried in all, unless told otherwise. */
const TIMEOUT_MS = 15_000;
/**
 * How long one try may take: a host answers within a second, whatever Kafka
 * does, and within five when its store is slow.
 */
const TRY_TIMEOUT_MS = 8_000;
/** First and longest pause between tries. */
const PAUSE_FIRST_MS = 50;
const PAUSE_LONGEST_MS = 2_000;
/** Messages and bytes of one request of `publishAll`. */
const BATCH = 500;
const BATCH_BYTES = 4 * 1024 * 1024;

/** How a publisher publishes. */
export interface PublisherOptions {
  /** Is shown to the host. */
  token?: string | undefined;
  /** Names the sending service; without it, the host takes the token's name. */
  source?: string | undefined;
  /** How long a message is tried in all before `GaveUpError`; 15 s unless given. */
  timeoutMs?: number | undefined;
  /** How long one try may take; 8 s unless given. */
  tryTimeoutMs?: number | undefined;
  /** The trace of what is published: its `traceparent`, or who knows it at that moment. */
  traceparent?: string | (() => string | undefined) | undefined;
  /** The outbox table of `publishIn`; `courier_outbox` unless given. */
  outboxTable?: string | undefined;
}

/** Options of one call. */
export interface CallOptions {
  /** Ends the call; the message may have been taken. */
  signal?: AbortSignal;
}

/** Which message is meant, where an id repeats. */
export interface Which extends CallOptions {
  topic?: string;
  source?: string;
}

/** Publishes messages through a host, and asks what became of them. */
export class Publisher {
  readonly #messages: URL;
  readonly #options: PublisherOptions;

  /**
   * @param url where the host is, for example `http://127.0.0.1:7070`
   * @throws {InvalidError} when that is none that HTTP can ask
   */
  constructor(url: string | URL, options: PublisherOptions = {}) {
    let parsed: URL;
    try {
      parsed = new URL(url);
    } catch {
      throw new InvalidError(`the host ${JSON.stringify(String(url))} is no URL`);
    }
    if (parsed.protocol !== "http:" && parsed.protocol !== "https:") {
      throw new InvalidError(`the host ${JSON.stringify(String(url))} is no http or https URL`);
    }
    parsed.pathname = `${parsed.pathname.replace(/\/+$/, "")}/v1/messages`;
    this.#messages = parsed;
    this.#options = options;
  }

  /** The same publisher with other options, for example within a trace. */
  with(options: PublisherOptions): Publisher {
    const base = new URL(this.#messages);
    base.pathname = base.pathname.replace(/\/v1\/messages$/, "");
    return new Publisher(base, { ...this.#options, ...options });
  }

  /**
   * The message with its id, as it is sent; publish it any number of times.
   * @throws {InvalidError} when it cannot be written
   */
  draft(message: Message): Draft {
    const traceparent = message.traceparent ?? this.#trace();
    return new Draft(traceparent === undefined ? message : { ...message, traceparent }, this.#options.source);
  }

  /**
   * Publishes a message, and tries again with its id while the cause can pass.
   * @throws {CourierError} that says what the sender can do
   */
  async publish(message: Message | Draft, options: CallOptions = {}): Promise<Receipt> {
    const draft = this.#asDraft(message);
    return this.#retry(draft, options.signal, async (attempt) => {
      const tried = await attempt({ method: "POST", url: this.#messages, body: draft.json });
      if ("again" in tried) return tried;
      const read = readPublished(tried.status, tried.text, false);
      if (typeof read === "string") return { again: read };
      if (read instanceof RefusedError) throw read;
      const item = read[0] ?? { again: "the host answered nothing" };
      if ("refused" in item) throw item.refused;
      return "again" in item ? item : { value: item.receipt };
    });
  }

  /** Publishes a message that is delivered no sooner than after `delayMs` milliseconds. */
  publishAfter(message: Message, delayMs: number, options?: CallOptions): Promise<Receipt> {
    return this.publish({ ...message, delayMs }, options);
  }

  /** Publishes a message that is delivered no sooner than at a time. */
  publishAt(message: Message, deliverAt: Date | string, options?: CallOptions): Promise<Receipt> {
    return this.publish({ ...message, deliverAt }, options);
  }

  /** Publishes a message that every node of each group handles. */
  publishBroadcast(message: Message, options?: CallOptions): Promise<Receipt> {
    return this.publish({ ...message, kind: "broadcast" }, options);
  }

  /**
   * Publishes messages in their order; answers for each, in the same order: a
   * receipt, or the error that `publish` would have thrown.
   * @throws {InvalidError} when one of them cannot be written: then none was sent
   */
  async publishAll(messages: readonly (Message | Draft)[], options: CallOptions = {}): Promise<(Receipt | CourierError)[]> {
    const drafts = messages.map((message) => this.#asDraft(message));
    const results: (Receipt | CourierError)[] = [];
    for (let start = 0; start < drafts.length; ) {
      let end = start;
      let bytes = 0;
      while (end < drafts.length && end - start < BATCH) {
        bytes += drafts[end]!.json.length;
        if (bytes > BATCH_BYTES && end > start) break;
        end += 1;
      }
      results.push(...(await this.#publishBatch(drafts.slice(start, end), options.signal)));
      start = end;
    }
    return results;
  }

  async #publishBatch(drafts: Draft[], signal: AbortSignal | undefined): Promise<(Receipt | CourierError)[]> {
    const results: (Receipt | CourierError | undefined)[] = drafts.map(() => undefined);
    const open = () => drafts.map((_, at) => at).filter((at) => results[at] === undefined);
    try {
      await this.#retry(undefined, signal, async (attempt) => {
        const asked = open();
        const body = `[${asked.map((at) => drafts[at]!.json).join(",")}]`;
        const tried = await attempt({ method: "POST", url: this.#messages, body });
        if ("again" in tried) return tried;
        const read = readPublished(tried.status, tried.text, true);
        if (typeof read === "string") return { again: read };
        if (read instanceof RefusedError) {
          for (const at of asked) results[at] = new RefusedError(read.status, read.problem, drafts[at]!.id);
          return { value: undefined };
        }
        let again = "the host answered fewer messages than it was sent";
        read.slice(0, asked.length).forEach((item, place) => {
          if ("again" in item) again = item.again;
          else results[asked[place]!] = "receipt" in item ? item.receipt : item.refused;
        });
        return open().length === 0 ? { value: undefined } : { again };
      });
    } catch (error) {
      if (!(error instanceof GaveUpError)) throw error;
      for (const at of open()) results[at] = new GaveUpError(error.tries, error.why, drafts[at]);
    }
    return results as (Receipt | CourierError)[];
  }

  /**
   * Takes a delayed message back that is not due yet; doing so again answers
   * the same.
   * @throws {RefusedError} 404 for an unknown one, 409 for one that went out
   */
  cancel(id: string, which: Which = {}): Promise<MessageView> {
    return this.#one("DELETE", id, which);
  }

  /**
   * A message with its deliveries and their attempts.
   * @throws {RefusedError} 404 for an unknown one
   */
  ask(id: string, which: Which = {}): Promise<MessageView> {
    return this.#one("GET", id, which);
  }

  async #one(method: "GET" | "DELETE", id: string, which: Which): Promise<MessageView> {
    const url = new URL(this.#messages);
    url.pathname += `/${encodeURIComponent(id)}`;
    if (which.topic !== undefined) url.searchParams.set("topic", which.topic);
    if (which.source !== undefined) url.searchParams.set("source", which.source);
    return this.#retry(undefined, which.signal, async (attempt) => {
      const tried = await attempt({ method, url });
      if ("again" in tried) return tried;
      if (tried.status !== 200) throw new RefusedError(tried.status, problemOf(tried.status, tried.text), id);
      const view = parse(tried.text);
      return view === undefined ? { again: "the answer is not a host's" } : { value: messageView(view as Record<string, unknown>) };
    });
  }

  /**
   * Writes a message into the outbox within a transaction of the service's
   * own: it is published if and only if that transaction commits. Answers its
   * id: a promise of it with `pg`, itself with `better-sqlite3` and
   * `node:sqlite`, whose transactions do not wait.
   * @throws {InvalidError} when it cannot be written; what the database throws is passed on
   */
  publishIn(tx: PostgresTransaction, message: Message | Draft): Promise<string>;
  publishIn(tx: SqliteTransaction, message: Message | Draft): string;
  publishIn(tx: PostgresTransaction | SqliteTransaction, message: Message | Draft): Promise<string> | string {
    const { outboxTable } = this.#options;
    return publishIn(tx, this.#asDraft(message), { ...(outboxTable !== undefined && { table: outboxTable }) });
  }

  #asDraft(message: Message | Draft): Draft {
    return message instanceof Draft ? message : this.draft(message);
  }

  #trace(): string | undefined {
    const { traceparent } = this.#options;
    return typeof traceparent === "function" ? traceparent() : traceparent;
  }

  /** Tries until there is an answer or the time is up. */
  async #retry<Value>(
    draft: Draft | undefined,
    signal: AbortSignal | undefined,
    once: (attempt: (request: Request) => ReturnType<typeof ask>) => Promise<{ value: Value } | { again: string; retryAfterMs?: number }>,
  ): Promise<Value> {
    const deadline = performance.now() + (this.#options.timeoutMs ?? TIMEOUT_MS);
    let pause = PAUSE_FIRST_MS;
    for (let tries = 1; ; tries += 1) {
      const outcome = await once((request) => this.#ask(request, deadline, draft, signal));
      if ("value" in outcome) return outcome.value;
      if (signal?.aborted) throw new GaveUpError(tries, `the call was ended: ${String(signal.reason)}`, draft);
      // A little at random, so that senders do not come back all at once.
      const wait = Math.max(pause * (0.5 + Math.random() / 2), outcome.retryAfterMs ?? 0);
      pause = Math.min(pause * 2, PAUSE_LONGEST_MS);
      if (performance.now() + wait >= deadline) throw new GaveUpError(tries, outcome.again, draft);
      try {
        await sleep(wait, undefined, signal && { signal });
      } catch {
        throw new GaveUpError(tries, `the call was ended: ${String(signal?.reason)}`, draft);
      }
    }
  }

  /** One try, no longer than what is left of the time. */
  async #ask(request: Request, deadline: number, draft: Draft | undefined, signal: AbortSignal | undefined): ReturnType<typeof ask> {
    const headers: Record<string, string> = { accept: "application/json" };
    if (request.body !== undefined) headers["content-type"] = "application/json";
    if (this.#options.token !== undefined) headers["authorization"] = `Bearer ${this.#options.token}`;
    const traceparent = draft?.message.traceparent ?? this.#trace();
    if (traceparent !== undefined) headers["traceparent"] = traceparent;
    const left = Math.max(deadline - performance.now(), PAUSE_FIRST_MS);
    const limit = AbortSignal.timeout(Math.ceil(Math.min(this.#options.tryTimeoutMs ?? TRY_TIMEOUT_MS, left)));
    return ask(request, headers, signal ? AbortSignal.any([limit, signal]) : limit);
  }
}
