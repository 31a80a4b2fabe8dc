import { InvalidError } from "./errors.js";
import { deliverAt, Draft, headersOf, utf8, wholeMillis } from "./message.js";

/** The outbox table, unless told otherwise. */
const OUTBOX = "courier_outbox";

/** A database that has an outbox. */
export type Dialect = "postgres" | "sqlite";

/** A client of `pg` within a transaction. */
export interface PostgresTransaction {
  query(text: string, values: unknown[]): Promise<unknown>;
}

/** A database of `better-sqlite3` or `node:sqlite`. */
export interface SqliteTransaction {
  // The libraries differ in what they say a parameter is.
  prepare(sql: string): { run(...values: any[]): unknown };
}

/** Where the row goes. */
export interface OutboxOptions {
  /** The table, with its schema before a dot if it has one. */
  table?: string;
}

/** A statement and its parameters. */
export interface Insert {
  text: string;
  values: (string | number | null)[];
}

/**
 * The statement that writes a message into an outbox, for other database
 * libraries than those of `publishIn`. PostgreSQL's parameters are `$1`,
 * SQLite's `?`.
 * @throws {InvalidError} when the message cannot be a row
 */
export function outboxInsert(dialect: Dialect, draft: Draft, options: OutboxOptions = {}): Insert {
  const { message, id } = draft;
  const key = typeof message.key === "string" || message.key === undefined ? message.key : utf8(message.key);
  if (message.key !== undefined && key === undefined) {
    throw new InvalidError("a key in an outbox is text, and this one is not", id);
  }
  if (draft.bodyText === undefined) throw new InvalidError("a body in an outbox is text, and this one is not", id);
  const headers = headersOf(message);
  if (message.body instanceof Uint8Array && message.contentType === undefined && !Object.keys(headers).some((name) => name.toLowerCase() === "content-type")) {
    headers["content-type"] = "application/octet-stream";
  }
  const names: string[] = [];
  const marks: string[] = [];
  const values: (string | number | null)[] = [];
  const add = (name: string, value: string | number | null, mark: (parameter: string) => string = (at) => at) => {
    names.push(name);
    values.push(value);
    marks.push(mark(dialect === "postgres" ? `$${values.length}` : "?"));
  };
  add("id", id);
  // An outbox of one's own may have no such column.
  if (draft.source !== undefined) add("source", draft.source);
  add("topic", message.topic);
  add("type", message.type);
  add("key", key ?? null);
  add("kind", message.kind ?? "event");
  add("body", draft.bodyText);
  add("headers", JSON.stringify(headers), (at) => (dialect === "postgres" ? `${at}::text::jsonb` : at));
  const due = deliverAt(message, id);
  if (due !== undefined) {
    add("deliver_at", due, (at) => (dialect === "postgres" ? `${at}::text::timestamptz` : at));
  } else if (message.delayMs !== undefined) {
    // The clock is the database's, as is that of everything else in the row.
    const millis = wholeMillis(message.delayMs, id);
    if (dialect === "postgres") {
      add("deliver_at", millis, (at) => `clock_timestamp() + ${at}::bigint * interval '1 millisecond'`);
    } else {
      // SQLite cuts its clock to milliseconds: one more, so that nothing is early.
      add("deliver_at", `+${((millis + 1) / 1000).toFixed(3)} seconds`, (at) => `strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ${at})`);
    }
  }
  const text = `INSERT INTO ${quoted(options.table ?? OUTBOX, id)} (${names.join(", ")}) VALUES (${marks.join(", ")})`;
  return { text, values };
}

/** Writes a message into the outbox through a library that is told by its shape. @internal */
export function publishIn(
  tx: PostgresTransaction | SqliteTransaction,
  draft: Draft,
  options: OutboxOptions,
): Promise<string> | string {
  if ("prepare" in tx && typeof tx.prepare === "function") {
    // What better-sqlite3 and node:sqlite call it.
    const hasBegun = ("inTransaction" in tx ? tx.inTransaction : "isTransaction" in tx ? tx.isTransaction : true) !== false;
    if (!hasBegun) throw new InvalidError("no transaction has begun on this database: the row would be committed by itself", draft.id);
    const { text, values } = outboxInsert("sqlite", draft, options);
    tx.prepare(text).run(...values);
    return draft.id;
  }
  if ("query" in tx && typeof tx.query === "function") {
    if ("totalCount" in tx && "idleCount" in tx) {
      throw new InvalidError("this is a pool, whose every query has a connection of its own: pass the client that began the transaction", draft.id);
    }
    const { text, values } = outboxInsert("postgres", draft, options);
    return tx.query(text, values).then(() => draft.id);
  }
  throw new InvalidError("this is no transaction of pg, better-sqlite3 or node:sqlite: outboxInsert makes the statement for others", draft.id);
}

function quoted(table: string, id: string): string {
  const parts = table.split(".");
  if (!parts.every((part) => /^[A-Za-z0-9_]+$/.test(part))) {
    throw new InvalidError(`the outbox table ${JSON.stringify(table)} is no plain name`, id);
  }
  return parts.map((part) => `"${part}"`).join(".");
}
