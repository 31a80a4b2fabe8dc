// What a handler can do besides returning.

import { call, Failure, reject, retry, trace, unavailable } from "./failure.js";
import { parse, stringify } from "./json.js";
import { textOf } from "./text.js";

const JSON_TYPE = "application/json";

function bytesOf(value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return null;
}

const utf8 = (text) => new TextEncoder().encode(text);

function keyOf(key) {
  if (key === undefined || key === null) return null;
  return bytesOf(key) ?? utf8(String(key));
}

function headersOf(headers) {
  if (!headers) return [];
  const pairs = Array.isArray(headers) ? headers : Object.entries(headers);
  return pairs.map((pair) => {
    const [name, value] = Array.isArray(pair) ? pair : [pair.name, pair.value];
    return { name: String(name), value: value === null || value === undefined ? null : (bytesOf(value) ?? utf8(String(value))) };
  });
}

/** A message as a handler sees it. */
export class Message {
  constructor(wire) {
    this.id = wire.id;
    this.key = wire.key ?? null;
    this.source = wire.source;
    this.topic = wire.topic;
    this.type = wire.type;
    this.kind = wire.kind;
    this.timeMicros = Number(wire.time);
    this.contentType = wire.contentType;
    this.body = wire.body ?? null;
    this.headers = wire.headers.map(({ name, value }) => ({ name, value: value ?? null }));
  }

  /** When it happened. */
  get time() {
    return new Date(this.timeMicros / 1000);
  }

  /** Whether it is a record without a value: what its key stood for is gone. */
  get isTombstone() {
    return this.body === null;
  }

  /** The key as text; null without a key. */
  get keyText() {
    return this.key === null ? null : textOf(this.key);
  }

  /** The body as text. */
  text() {
    return this.body === null ? "" : textOf(this.body);
  }

  /** The body as JSON; integers beyond 2^53 are BigInt. */
  json() {
    return parse(this.body === null ? "" : textOf(this.body, true));
  }

  /** The first header of this name as text; undefined without one. */
  header(name) {
    const wanted = name.toLowerCase();
    const found = this.headers.find((header) => header.name.toLowerCase() === wanted);
    return found?.value ? textOf(found.value) : undefined;
  }
}

function attemptOf(wire) {
  return Object.freeze({
    group: wire.group,
    delivery: wire.delivery,
    number: wire.number,
    counted: wire.counted,
    maxAttempts: wire.maxAttempts,
    partition: wire.partition,
    offset: Number(wire.offset),
    deadline: new Date(Number(wire.deadline) / 1000),
  });
}

/** Keys and values, either the group's state or the node's cache. */
class Store {
  #imports;
  constructor(imports) {
    this.#imports = imports;
  }

  getBytes(key) {
    return call(this.#imports().get, key) ?? undefined;
  }

  getText(key) {
    const bytes = this.getBytes(key);
    return bytes === undefined ? undefined : textOf(bytes);
  }

  get(key) {
    const text = this.getText(key);
    return text === undefined ? undefined : parse(text);
  }

  set(key, value) {
    call(this.#imports().set, key, bytesOf(value) ?? utf8(stringify(value)));
  }

  delete(key) {
    call(this.#imports().set, key, null);
  }
}

function logger(write) {
  const log = (...values) => write("info", values);
  for (const level of ["debug", "info", "warn", "error"]) log[level] = (...values) => write(level, values);
  return log;
}

/** The imports as the context of one item of a batch calls them. */
export function importsOf(host, item) {
  const own = Object.create(host);
  const { publish } = host["courier:plugin/batch-publish"] ?? {};
  if (publish) own["courier:plugin/publish"] = { publish: (message) => publish(item, message) };
  const { get, set } = host["courier:plugin/batch-state"] ?? {};
  if (get) own["courier:plugin/state"] = { get: (key) => get(item, key), set: (key, value) => set(item, key, value) };
  return own;
}

/**
 * The message and the attempt at hand, and everything that a handler may do. What a
 * handler does not ask for is not made: most of the time of a short call would go there.
 */
export class Context {
  #host;
  #wireAttempt;
  #attempt;
  #state;
  #cache;
  #log;
  constructor(host, message, attempt) {
    this.#host = host;
    this.#wireAttempt = attempt;
    this.message = new Message(message);
  }

  get attempt() {
    return (this.#attempt ??= attemptOf(this.#wireAttempt));
  }

  get state() {
    return (this.#state ??= new Store(() => this.#imports("state")));
  }

  get cache() {
    return (this.#cache ??= new Store(() => this.#imports("cache")));
  }

  get log() {
    return (this.#log ??= logger((level, values) => this.#host["courier:plugin/log"].log(level, format(values))));
  }

  #imports(name) {
    const imports = this.#host[`courier:plugin/${name}`];
    if (!imports) throw new Error(`this handler was built without ${name}: name it in uses, as in uses: ["${name}"]`);
    return imports;
  }

  /** Publishes a message when this attempt succeeds; returns the id that it will have. */
  publish(message) {
    const { topic, type = "", key, body, headers, contentType } = message;
    if (body === undefined) throw new TypeError("publish wants a body; null publishes a tombstone");
    const wire = { topic, type, key: keyOf(key), contentType: contentType ?? "", body: null, headers: headersOf(headers) };
    if (body !== null) {
      const bytes = bytesOf(body) ?? (contentType && typeof body === "string" ? utf8(body) : null);
      wire.body = bytes ?? utf8(stringify(body));
      if (bytes === null) wire.contentType ||= JSON_TYPE;
    }
    return call(this.#imports("publish").publish, wire);
  }

  /** A value of `[binding.config]`. */
  config(key) {
    return this.#imports("config").get(key) ?? undefined;
  }

  /** A value of `[binding.secrets]`. */
  secret(key) {
    return this.#imports("config").secret(key) ?? undefined;
  }

  retry(reason, options) {
    return retry(reason, options);
  }

  reject(reason, options) {
    return reject(reason, options);
  }

  unavailable(reason, options) {
    return unavailable(reason, options);
  }

  /** The response if its status says success; else throws what should follow. */
  expectOk(response) {
    if (response.ok) return response;
    const why = `http ${response.status}`;
    if (response.status === 429 || response.status === 503) {
      const seconds = Number(response.headers.get("retry-after") ?? NaN);
      throw new Failure("unavailable", why, Number.isFinite(seconds) && seconds >= 0 ? { after: seconds * 1000 } : {});
    }
    throw new Failure(response.status >= 500 ? "retry" : "reject", why);
  }
}

/** Values as a line of the log: text as it is, all else as it would be written. */
export function format(values) {
  return values.map((value) => (typeof value === "string" ? value : inspect(value, new Set()))).join(" ");
}

const MAX_INSPECTED_DEPTH = 4;

function inspect(value, parents) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `[function ${value.name || "anonymous"}]`;
  if (typeof value !== "object" || value === null) return String(value);
  if (value instanceof Error) return trace(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (parents.has(value)) return "[circular]";
  if (parents.size >= MAX_INSPECTED_DEPTH) return Array.isArray(value) ? "[array]" : "[object]";
  const inner = new Set(parents).add(value);
  const show = (item) => inspect(item, inner);
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return `${value.constructor.name}(${value.length}) [${Array.from(value.subarray(0, 32), String).join(", ")}${value.length > 32 ? ", .." : ""}]`;
  if (value instanceof Map) return `Map {${[...value].map(([key, item]) => `${show(key)} => ${show(item)}`).join(", ")}}`;
  if (value instanceof Set) return `Set {${[...value].map(show).join(", ")}}`;
  const members = Object.entries(value).map(([key, item]) => `${key}: ${show(item)}`);
  const name = value.constructor && value.constructor !== Object ? `${value.constructor.name} ` : "";
  return `${name}{${members.join(", ")}}`;
}
