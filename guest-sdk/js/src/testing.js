// Runs a handler without a host: `import { deliver } from "courier-sdk/testing"`.

import { Context } from "./context.js";
import { run, runBatch } from "./index.js";
import { stringify } from "./json.js";

const bytes = (value) => (value instanceof Uint8Array ? value : new TextEncoder().encode(typeof value === "string" ? value : stringify(value)));
const json = (value) => (value instanceof Uint8Array ? value : new TextEncoder().encode(stringify(value)));

function wireMessage(given) {
  const { body = {}, key = null, headers = {}, time = new Date(), contentType = "application/json" } = given;
  return {
    id: given.id ?? "test-message",
    key: key === null ? null : bytes(key),
    source: given.source ?? "test",
    topic: given.topic ?? "test",
    type: given.type ?? "",
    kind: given.kind ?? "event",
    time: time.getTime() * 1000,
    contentType,
    body: body === null ? null : typeof body === "string" && !contentType.includes("json") ? bytes(body) : json(body),
    headers: Object.entries(headers).map(([name, value]) => ({ name, value: value === null ? null : bytes(value) })),
  };
}

function wireAttempt(given) {
  return {
    group: given.group ?? "test",
    delivery: given.delivery ?? "test-delivery",
    number: given.number ?? 1,
    counted: given.counted ?? 0,
    maxAttempts: given.maxAttempts ?? 1,
    partition: given.partition ?? 0,
    offset: given.offset ?? 0,
    deadline: (given.deadline ?? new Date(Date.now() + 5_000)).getTime() * 1000,
  };
}

/** A host that records. */
class Recorder {
  constructor({ config = {}, secrets = {}, state = {}, cache = {}, deny = [] }) {
    this.published = [];
    this.logs = [];
    this.state = new Map(Object.entries(state).map(([key, value]) => [key, json(value)]));
    this.cache = new Map(Object.entries(cache).map(([key, value]) => [key, json(value)]));
    const refuse = (what) => {
      if (!deny.includes(what)) return;
      throw Object.assign(new Error("refused"), { payload: { tag: "denied", val: `binding of group test does not grant ${what}` } });
    };
    const store = (what, values) => ({
      get: (key) => (refuse(what), values.get(key) ?? null),
      set: (key, value) => (refuse(what), value === null ? values.delete(key) : values.set(key, value), undefined),
    });
    this.imports = {
      "courier:plugin/publish": { publish: (message) => (refuse("publish"), this.#publish(message)) },
      "courier:plugin/state": store("state", this.state),
      "courier:plugin/cache": store("cache", this.cache),
      "courier:plugin/config": { get: (key) => config[key] ?? null, secret: (key) => secrets[key] ?? null },
      "courier:plugin/log": { log: (level, text) => void this.logs.push({ level, text }) },
    };
  }

  #publish(message) {
    const text = message.body === null ? null : new TextDecoder().decode(message.body);
    const isJson = message.contentType.includes("json");
    this.published.push({
      topic: message.topic,
      type: message.type,
      key: message.key === null ? null : new TextDecoder().decode(message.key),
      contentType: message.contentType,
      body: text !== null && isJson ? JSON.parse(text) : message.body,
      headers: message.headers,
    });
    return `test-${this.published.length}`;
  }

  get seen() {
    const open = (values) => Object.fromEntries([...values].map(([key, value]) => [key, opened(value)]));
    return { published: this.published, logs: this.logs, state: open(this.state), cache: open(this.cache) };
  }
}

function opened(value) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(value));
  } catch {
    return value;
  }
}

/** Delivers one message as the host does, and tells what came of it. */
export async function deliver(handler, given = {}) {
  const recorder = new Recorder(given);
  const failure = await run(handler, recorder.imports, wireMessage(given), wireAttempt(given.attempt ?? {}));
  return outcome(failure, recorder);
}

/**
 * Delivers several messages to a batch handler in one call, and tells what came of each.
 * Rejects when the call fails as a whole: the host would then run each message alone.
 */
export async function deliverBatch(handler, given) {
  const recorders = given.map((one) => new Recorder(one));
  const contexts = given.map(
    (one, place) => new Context(recorders[place].imports, wireMessage(one), wireAttempt(one.attempt ?? {})),
  );
  const failures = await runBatch(handler, contexts);
  return failures.map((failure, place) => outcome(failure, recorders[place]));
}

function outcome(failure, recorder) {
  if (failure === undefined) return { verdict: "success", reason: null, afterMs: null, ...recorder.seen };
  const isPlain = typeof failure.val === "string";
  const reason = isPlain ? failure.val : failure.val.reason;
  return { verdict: failure.tag, reason, afterMs: isPlain ? null : failure.val.afterMs, ...recorder.seen };
}

/** A context of its own, to call a function that takes one. */
export function context(given = {}) {
  const recorder = new Recorder(given);
  const ctx = new Context(recorder.imports, wireMessage(given), wireAttempt(given.attempt ?? {}));
  return { ctx, seen: () => recorder.seen };
}
