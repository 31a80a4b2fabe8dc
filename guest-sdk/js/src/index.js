// What a handler imports: `import { handler } from "courier-sdk"`.

import { Context, Message } from "./context.js";
import { Failure, RefusalError, reject, retry, toWire, trace, unavailable } from "./failure.js";

export { Context, Failure, Message, RefusalError, reject, retry, unavailable };

const OPTIONS = ["group", "topics", "types", "publishes", "http", "uses", "decode", "tombstones"];
const DECODINGS = ["auto", "json", "text", "bytes"];

/** Declares a handler: export it as the module's default. */
export function handler(options, handle) {
  if (typeof options === "function") [options, handle] = [{}, options];
  if (typeof handle !== "function") throw new TypeError("handler(options, handle) wants a function that handles a message");
  for (const name of Object.keys(options)) {
    if (name === "batch") throw new TypeError("batch handlers cannot be written in JavaScript yet: handle one message at a time");
    if (!OPTIONS.includes(name)) throw new TypeError(`handler has no option ${name}; it has ${OPTIONS.join(", ")}`);
  }
  for (const name of ["topics", "types", "publishes", "http", "uses"]) {
    const list = options[name] ?? [];
    if (!Array.isArray(list) || !list.every((item) => typeof item === "string")) {
      throw new TypeError(`${name} of a handler is a list of texts`);
    }
  }
  if (!DECODINGS.includes(options.decode ?? "auto")) throw new TypeError(`decode of a handler is one of ${DECODINGS.join(", ")}`);
  const declared = (event, ctx) => handle(event, ctx);
  declared.options = Object.freeze({ ...options });
  return declared;
}

/** Whether a module's default export came from `handler`. */
export const isHandler = (value) => typeof value === "function" && typeof value.options === "object";

/** What the component says about itself. */
export function describe({ options }) {
  const { group = "", topics = [], types = [], publishes = [], http = [], uses } = options;
  return JSON.stringify({ group, topics, types, publishes, http, uses });
}

function decode(message, wanted) {
  const type = message.contentType.toLowerCase();
  const auto = type === "" || /[/+]json\b/.test(type) ? "json" : type.startsWith("text/") ? "text" : "bytes";
  const decoding = wanted === undefined || wanted === "auto" ? auto : wanted;
  if (decoding === "bytes") return message.body;
  if (decoding === "text") return message.text();
  try {
    return message.json();
  } catch (error) {
    throw reject(`the body is not JSON: ${error.message}`);
  }
}

/**
 * Runs a handler for one message; returns the contract's failure, or undefined, or a
 * promise of it. A handler that waits for nothing makes no promise, which would be most
 * of the time of a short call.
 */
export function run(declared, host, wireMessage, wireAttempt) {
  const ctx = new Context(host, wireMessage, wireAttempt);
  try {
    const { message } = ctx;
    if (message.isTombstone && !declared.options.tombstones) {
      throw reject("it is a tombstone, a record without a value: set tombstones: true to handle those");
    }
    const outcome = declared(message.isTombstone ? null : decode(message, declared.options.decode), ctx);
    if (typeof outcome?.then !== "function") return undefined;
    return Promise.resolve(outcome).then(() => undefined, (error) => failureOf(error, ctx));
  } catch (error) {
    return failureOf(error, ctx);
  }
}

function failureOf(error, ctx) {
  const failure = toWire(error?.failure instanceof Failure ? error.failure : error);
  if (failure.tag === "error" && error instanceof Error) ctx.log.error(trace(error));
  return failure;
}
