// fetch over wasi:http, to what `[binding.http] allow` names.

import { Failure } from "./failure.js";
import { host } from "./host.js";
import { stringify } from "./json.js";
import { dispose, until } from "./loop.js";

const types = host["wasi:http/types"];
const outgoing = host["wasi:http/outgoing-handler"];
const WRITE_BYTES = 4096;
const READ_BYTES = 65_536;
const MAX_REDIRECTS = 5;
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/** Why there is no answer; uncaught it says what should follow. */
class FetchError extends TypeError {
  constructor(verdict, why) {
    super(`fetch failed: ${why}`);
    this.name = "TypeError";
    if (verdict) this.failure = new Failure(verdict, `http ${why}`);
  }
}

function told(code) {
  switch (code?.tag) {
    case "internal-error":
      return new FetchError(null, `refused: ${code.val ?? "no reason"}`);
    case "connection-refused":
      return new FetchError("unavailable", "connection refused");
    case "connection-timeout":
      return new FetchError("unavailable", "no connection in time");
    case "DNS-error":
    case "DNS-timeout":
      return new FetchError("unavailable", "no such name");
    case "destination-IP-unroutable":
    case "destination-unavailable":
      return new FetchError("unavailable", "no way to the host");
    case "connection-limit-reached":
      return new FetchError("unavailable", "too many requests under way");
    case "TLS-alert-received":
      return new FetchError("unavailable", `tls: ${code.val?.alertMessage ?? "refused"}`);
    case "TLS-certificate-error":
      return new FetchError("unavailable", "certificate is not trusted");
    case "TLS-protocol-error":
      return new FetchError("unavailable", "tls: no handshake");
    case "connection-read-timeout":
    case "HTTP-response-timeout":
      return new FetchError("retry", "no answer in time");
    case "HTTP-protocol-error":
      return new FetchError("retry", "answer is no HTTP/1.1");
    case "HTTP-response-header-section-size":
      return new FetchError("retry", "answer has too many headers");
    case "connection-terminated":
      return new FetchError("retry", "connection broke off");
    case "HTTP-response-incomplete":
      return new FetchError("retry", "answer broke off");
    default:
      return new FetchError(null, `refused: ${code?.tag ?? String(code)}`);
  }
}

export class Headers {
  #values = new Map();
  constructor(init) {
    if (!init) return;
    const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
    for (const [name, value] of pairs) this.append(name, value);
  }

  append(name, value) {
    const key = String(name).toLowerCase();
    this.#values.set(key, this.#values.has(key) ? `${this.#values.get(key)}, ${value}` : String(value).trim());
  }

  set(name, value) {
    this.#values.set(String(name).toLowerCase(), String(value).trim());
  }

  get(name) {
    return this.#values.get(String(name).toLowerCase()) ?? null;
  }

  has(name) {
    return this.#values.has(String(name).toLowerCase());
  }

  delete(name) {
    this.#values.delete(String(name).toLowerCase());
  }

  forEach(callback, thisValue) {
    for (const [name, value] of this) callback.call(thisValue, value, name, this);
  }

  *entries() {
    yield* [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  *keys() {
    for (const [name] of this.entries()) yield name;
  }

  *values() {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }
}

/** The bytes of a body and the content type that it brings. */
function bodyOf(body) {
  if (body === undefined || body === null) return { bytes: null, type: null };
  if (typeof body === "string") return { bytes: new TextEncoder().encode(body), type: "text/plain;charset=UTF-8" };
  if (body instanceof URLSearchParams) {
    return { bytes: new TextEncoder().encode(String(body)), type: "application/x-www-form-urlencoded;charset=UTF-8" };
  }
  if (body instanceof ArrayBuffer) return { bytes: new Uint8Array(body), type: null };
  if (ArrayBuffer.isView(body)) return { bytes: new Uint8Array(body.buffer, body.byteOffset, body.byteLength), type: null };
  throw new TypeError("a body is a text, URLSearchParams, an ArrayBuffer or a typed array");
}

class Body {
  #bytes;
  constructor(bytes) {
    this.#bytes = bytes;
    this.bodyUsed = false;
  }

  #take() {
    if (this.bodyUsed) throw new TypeError("the body was read already");
    this.bodyUsed = true;
    return this.#bytes ?? new Uint8Array();
  }

  async bytes() {
    return this.#take();
  }

  async arrayBuffer() {
    return this.#take().slice().buffer;
  }

  async text() {
    return new TextDecoder().decode(this.#take());
  }

  async json() {
    return JSON.parse(await this.text());
  }

  /** The bytes, not marked as read. */
  static peek(body) {
    return body.#bytes;
  }
}

export class Request extends Body {
  constructor(input, init = {}) {
    const from = input instanceof Request ? input : null;
    const { bytes, type } = bodyOf(init.body);
    super(init.body === undefined && from ? Body.peek(from) : bytes);
    this.url = from ? from.url : new URL(String(input)).href;
    const method = String(init.method ?? from?.method ?? "GET");
    this.method = METHODS.includes(method.toUpperCase()) ? method.toUpperCase() : method;
    this.headers = new Headers(init.headers ?? from?.headers);
    this.redirect = init.redirect ?? from?.redirect ?? "follow";
    this.signal = init.signal ?? from?.signal ?? null;
    if (type && !this.headers.has("content-type")) this.headers.set("content-type", type);
    if (bytes && (this.method === "GET" || this.method === "HEAD")) throw new TypeError(`${this.method} takes no body`);
  }
}

export class Response extends Body {
  constructor(body = null, init = {}) {
    const { bytes, type } = bodyOf(body);
    super(bytes);
    this.status = init.status ?? 200;
    this.statusText = init.statusText ?? "";
    this.headers = new Headers(init.headers);
    this.url = init.url ?? "";
    this.redirected = init.redirected ?? false;
    if (type && !this.headers.has("content-type")) this.headers.set("content-type", type);
  }

  get ok() {
    return this.status >= 200 && this.status <= 299;
  }

  static json(value, init) {
    const response = new Response(stringify(value), init);
    response.headers.set("content-type", "application/json");
    return response;
  }
}

function open(request) {
  const url = new URL(request.url);
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new FetchError(null, `${url.protocol} is no scheme of HTTP`);
  const encoder = new TextEncoder();
  const fields = types.Fields.fromList([...request.headers].map(([name, value]) => [name, encoder.encode(value)]));
  const made = new types.OutgoingRequest(fields);
  const method = METHODS.includes(request.method) ? { tag: request.method.toLowerCase() } : { tag: "other", val: request.method };
  made.setMethod(method);
  made.setScheme({ tag: url.protocol === "https:" ? "HTTPS" : "HTTP" });
  made.setAuthority(url.host);
  made.setPathWithQuery(`${url.pathname}${url.search}`);
  return made;
}

function write(body, bytes) {
  const stream = body.write();
  try {
    for (let at = 0; at < bytes.length; at += WRITE_BYTES) {
      stream.blockingWriteAndFlush(bytes.subarray(at, at + WRITE_BYTES));
    }
  } finally {
    dispose(stream);
  }
}

async function read(response) {
  const body = response.consume();
  const stream = body.stream();
  const chunks = [];
  let length = 0;
  try {
    for (;;) {
      await until(stream.subscribe());
      const chunk = Uint8Array.from(stream.read(READ_BYTES));
      chunks.push(chunk);
      length += chunk.length;
    }
  } catch (error) {
    if (error?.payload?.tag !== "closed") throw new FetchError("retry", "answer broke off");
  } finally {
    dispose(stream);
    dispose(body);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

async function send(request) {
  const made = open(request);
  const body = made.body();
  let future;
  try {
    future = outgoing.handle(made, null);
  } catch (error) {
    throw told(error?.payload);
  }
  try {
    write(body, Body.peek(request) ?? new Uint8Array());
    types.OutgoingBody.finish(body, null);
  } catch {
    // What cannot be written was refused or is broken, which the answer says.
    dispose(body);
  }
  await until(future.subscribe());
  const answer = future.get();
  dispose(future);
  // An option of a result of a result.
  const inner = answer?.val?.tag === undefined ? answer : answer.val;
  if (inner?.tag !== "ok") throw told(inner?.val);
  const response = inner.val;
  const headers = new Headers();
  const decoder = new TextDecoder("latin1");
  for (const [name, value] of response.headers().entries()) headers.append(name, decoder.decode(Uint8Array.from(value)));
  const status = response.status();
  const bytes = await read(response);
  dispose(response);
  return { status, headers, bytes };
}

/** Rejects once the signal is aborted. */
function aborted(signal) {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener("abort", () => reject(signal.reason));
  });
}

export async function fetch(input, init) {
  let request = new Request(input, init);
  if (!types) throw new Error("this handler was built without http: name it in uses, as in uses: [\"http\"]");
  for (let redirects = 0; ; redirects += 1) {
    const sent = send(request);
    const { status, headers, bytes } = await (request.signal ? Promise.race([sent, aborted(request.signal)]) : sent);
    const location = [301, 302, 303, 307, 308].includes(status) ? headers.get("location") : null;
    if (location === null || request.redirect === "manual") {
      return new Response(bytes, { status, headers, url: request.url, redirected: redirects > 0 });
    }
    if (request.redirect === "error" || redirects >= MAX_REDIRECTS) {
      throw new FetchError("reject", request.redirect === "error" ? `${status} redirects` : `more than ${MAX_REDIRECTS} redirects`);
    }
    request = redirected(request, status, new URL(location, request.url));
  }
}

function redirected(request, status, url) {
  const becomesGet = status === 303 || ((status === 301 || status === 302) && request.method === "POST");
  const headers = new Headers(request.headers);
  if (becomesGet) for (const name of ["content-type", "content-length"]) headers.delete(name);
  if (url.origin !== new URL(request.url).origin) for (const name of ["authorization", "cookie"]) headers.delete(name);
  const body = becomesGet ? undefined : (Body.peek(request) ?? undefined);
  const method = becomesGet ? "GET" : request.method;
  return new Request(url.href, { method, headers, body, redirect: request.redirect, signal: request.signal ?? undefined });
}
