// What a handler imports: `import { handler } from "courier-sdk"`.

import { Context, Message } from "./context.js";
import { Failure, meant, RefusalError, reject, retry, toWire, trace, unavailable } from "./failure.js";

export { Context, Failure, Message, RefusalError, reject, retry, unavailable };

const OPTIONS = ["group", "topics", "types", "publishes", "http", "uses", "decode", "tombstones"];
const DECODINGS = ["auto", "json", "text", "bytes"];

/** Declares a handler: export it as the module's default. */
export function handler(options, handle) {
  return declare("handler", "a message", options, handle);
}

/**
 * Declares a handler of several messages at a time, which returns one outcome for each:
 * undefined for a success, or an error.
 */
export function batchHandler(options, handle) {
  return declare("batchHandler", "a list of items", options, handle);
}

const WORLDS = { handler: "handler", batchHandler: "batch-handler" };

function declare(by, what, options, handle) {
  if (typeof options === "function") [options, handle] = [{}, options];
  if (typeof handle !== "function") throw new TypeError(`${by}(options, handle) wants a function that handles ${what}`);
  for (const name of Object.keys(options)) {
    if (name === "batch") throw new TypeError("batch is no option: write `export default batchHandler({ .. }, (items) => { .. })`");
    if (!OPTIONS.includes(name)) throw new TypeError(`${by} has no option ${name}; it has ${OPTIONS.join(", ")}`);
  }
  for (const name of ["topics", "types", "publishes", "http", "uses"]) {
    const list = options[name] ?? [];
    if (!Array.isArray(list) || !list.every((item) => typeof item === "string")) {
      throw new TypeError(`${name} of a handler is a list of texts`);
    }
  }
  if (!DECODINGS.includes(options.decode ?? "auto")) throw new TypeError(`decode of a handler is one of ${DECODINGS.join(", ")}`);
  const declared = (...given) => handle(...given);
  declared.options = Object.freeze({ ...options });
  declared.world = WORLDS[by];
  return declared;
}

/** Whether a module's default export came from `handler` or `batchHandler`. */
export const isHandler = (value) => typeof value === "function" && typeof value.options === "object";

/** What the component says about itself. */
export function describe({ options, world }) {
  const { group = "", topics = [], types = [], publishes = [], http = [], uses } = options;
  return JSON.stringify({ world, group, topics, types, publishes, http, uses });
}

function decodingOf(contentType) {
  if (contentType === "" || contentType === "application/json") return "json";
  const type = contentType.toLowerCase();
  return /[/+]json\b/.test(type) ? "json" : type.startsWith("text/") ? "text" : "bytes";
}

function decode(message, wanted) {
  const decoding = wanted === undefined || wanted === "auto" ? decodingOf(message.contentType) : wanted;
  if (decoding === "bytes") return message.body;
  if (decoding === "text") return message.text();
  try {
    return message.json();
  } catch (error) {
    throw reject(`the body is not JSON: ${error.message}`);
  }
}

/** What the handler is given of a message. */
function read({ options }, message) {
  if (!message.isTombstone) return decode(message, options.decode);
  if (!options.tombstones) throw reject("it is a tombstone, a record without a value: set tombstones: true to handle those");
  return null;
}

/**
 * Runs a handler for one message; returns the contract's failure, or undefined, or a
 * promise of it. A handler that waits for nothing makes no promise, which would be most
 * of the time of a short call.
 */
export function run(declared, host, wireMessage, wireAttempt) {
  const ctx = new Context(host, wireMessage, wireAttempt);
  try {
    const outcome = declared(read(declared, ctx.message), ctx);
    if (typeof outcome?.then !== "function") return undefined;
    return Promise.resolve(outcome).then(() => undefined, (error) => failureOf(error, ctx));
  } catch (error) {
    return failureOf(error, ctx);
  }
}

/**
 * Runs a batch handler for several messages; returns a failure or undefined for each, or
 * a promise of that. A message that cannot be read is rejected by itself, and the handler
 * never sees it. What the handler throws, or a wrong number of outcomes, says nothing
 * about which message it means: of one message it is the outcome, of several it ends the
 * call, and the host runs each alone.
 */
export function runBatch(declared, contexts) {
  const outcomes = contexts.map(() => undefined);
  const items = [];
  const places = [];
  contexts.forEach((ctx, place) => {
    try {
      items.push(Object.freeze({ event: read(declared, ctx.message), ctx }));
      places.push(place);
    } catch (error) {
      outcomes[place] = failureOf(error, ctx);
    }
  });
  if (items.length === 0) return outcomes;
  const judge = (returned) => {
    if (!Array.isArray(returned) || returned.length !== items.length) {
      const got = Array.isArray(returned) ? `${returned.length} outcomes` : typeof returned;
      throw new TypeError(`the batch handler returned ${got} for ${items.length} items: a list with one for each is needed`);
    }
    returned.forEach((outcome, index) => {
      if (outcome === undefined || outcome === null) return;
      if (!(outcome instanceof Error)) {
        throw new TypeError(`outcome ${index} is ${JSON.stringify(outcome)}: undefined is a success, and an error a failure`);
      }
      outcomes[places[index]] = failureOf(outcome, contexts[places[index]]);
    });
    return outcomes;
  };
  const fail = (error) => {
    if (contexts.length > 1) throw error;
    return [failureOf(error, contexts[0])];
  };
  try {
    const returned = declared(items);
    if (typeof returned?.then !== "function") return judge(returned);
    return Promise.resolve(returned).then(judge).catch(fail);
  } catch (error) {
    return fail(error);
  }
}

function failureOf(error, ctx) {
  const failure = toWire(meant(error));
  if (failure.tag === "error" && error instanceof Error) ctx.log.error(trace(error));
  return failure;
}
