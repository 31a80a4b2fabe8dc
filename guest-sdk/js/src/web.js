// What web developers expect to find, where QuickJS has none of it.

import { format } from "./context.js";
import { host } from "./host.js";
import { clearTimeout, setImmediate, setInterval, setTimeout } from "./loop.js";
import { fetch, Headers, Request, Response } from "./fetch.js";
import { URL, URLSearchParams } from "./url.js";
import { structuredClone } from "./clone.js";
import { TextDecoder, TextEncoder } from "./text.js";

const { log } = host["courier:plugin/log"];
const { getRandomBytes, getRandomU64 } = host["wasi:random/random"];
const MAX_RANDOM_BYTES = 65_536;

const at = (level) => (...values) => log(level, format(values));
const counts = new Map();
const timers = new Map();
const since = (label) => `${label}: ${Date.now() - (timers.get(label) ?? Date.now())} ms`;
const console = {
  debug: at("debug"),
  trace: at("debug"),
  log: at("info"),
  info: at("info"),
  dir: at("info"),
  warn: at("warn"),
  error: at("error"),
  assert: (holds, ...values) => holds || log("error", `assertion failed ${format(values)}`.trim()),
  table: at("info"),
  group: at("info"),
  groupCollapsed: at("info"),
  groupEnd() {},
  count(label = "default") {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    log("info", `${label}: ${counts.get(label)}`);
  },
  countReset: (label = "default") => void counts.delete(label),
  time: (label = "default") => void timers.set(label, Date.now()),
  timeLog: (label = "default", ...values) => log("info", `${since(label)} ${format(values)}`.trim()),
  timeEnd(label = "default") {
    log("info", since(label));
    timers.delete(label);
  },
};

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

const crypto = {
  getRandomValues(array) {
    if (!ArrayBuffer.isView(array)) throw new TypeError("getRandomValues wants a typed array");
    if (array.byteLength > MAX_RANDOM_BYTES) throw new DOMException(`more than ${MAX_RANDOM_BYTES} bytes`, "QuotaExceededError");
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(getRandomBytes(array.byteLength));
    return array;
  },

  randomUUID() {
    const bytes = Uint8Array.from(getRandomBytes(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  },
};

class Event {
  constructor(type) {
    this.type = type;
  }
}

class EventTarget {
  #listeners = new Map();
  addEventListener(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  removeEventListener(type, listener) {
    this.#listeners.set(type, (this.#listeners.get(type) ?? []).filter((known) => known !== listener));
  }

  dispatchEvent(event) {
    event.target = this;
    this[`on${event.type}`]?.(event);
    for (const listener of this.#listeners.get(event.type) ?? []) (listener.handleEvent ?? listener).call(listener, event);
    return true;
  }
}

class AbortSignal extends EventTarget {
  aborted = false;
  reason = undefined;

  throwIfAborted() {
    if (this.aborted) throw this.reason;
  }

  static abort(reason) {
    const controller = new AbortController();
    controller.abort(reason);
    return controller.signal;
  }

  static timeout(delayMs) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new DOMException("the time is up", "TimeoutError")), delayMs);
    return controller.signal;
  }
}

class AbortController {
  signal = new AbortSignal();

  abort(reason = new DOMException("it was aborted", "AbortError")) {
    if (this.signal.aborted) return;
    this.signal.aborted = true;
    this.signal.reason = reason;
    this.signal.dispatchEvent(new Event("abort"));
  }
}

function queueMicrotask(callback) {
  if (typeof callback !== "function") throw new TypeError("queueMicrotask wants a function");
  Promise.resolve().then(callback);
}

const provided = {
  AbortController,
  AbortSignal,
  clearInterval: clearTimeout,
  clearTimeout,
  console,
  crypto,
  Event,
  EventTarget,
  fetch,
  Headers,
  queueMicrotask,
  Request,
  Response,
  self: globalThis,
  setImmediate,
  setInterval,
  setTimeout,
  structuredClone,
  TextDecoder,
  TextEncoder,
  URL,
  URLSearchParams,
};
for (const [name, value] of Object.entries(provided)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}
// QuickJS seeds its generator once, before the snapshot: all instances would
// draw the same numbers.
Math.random = () => Number(BigInt(getRandomU64()) & 0x1f_ffff_ffff_ffffn) / 2 ** 53;
