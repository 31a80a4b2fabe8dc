import { randomFillSync } from "node:crypto";

import { InvalidError } from "./errors.js";

/** A header's value: text, bytes, or none. */
export type HeaderValue = string | Uint8Array | null;

/** A message as a service writes it. */
export interface Message<Body = unknown> {
  /**
   * An id of the service's own, such as that of the order it is about: then a
   * service that forgot whether it sent the message may send it again. Without
   * one the publisher chooses one before it sends.
   */
  id?: string;
  /** Where it goes. */
  topic: string;
  /** What happened, for example `OrderCreated`. */
  type: string;
  /** The primary key: messages of one key are handled in order. */
  key?: string | Uint8Array;
  /** Any value that JSON has, or bytes. */
  body: Body;
  /** The media type of the body; JSON's, or that of bytes, unless given. */
  contentType?: string;
  /** Further headers, by name; an array for a name that repeats. */
  headers?: Record<string, HeaderValue | HeaderValue[]>;
  /** `broadcast` lets every node of each group handle it. */
  kind?: "event" | "broadcast";
  /** The shortest time from the host taking the message to its delivery, in milliseconds. */
  delayMs?: number;
  /** The earliest time of the delivery: a `Date`, or RFC 3339. */
  deliverAt?: Date | string;
  /** The trace it belongs to, as in the header of W3C Trace Context. */
  traceparent?: string;
}

/** What all messages of a type have in common. */
export interface EventOptions<Body> {
  topic: string;
  type: string;
  /** The primary key of one. */
  key?: (body: Body) => string | Uint8Array;
  kind?: "event" | "broadcast";
}

/**
 * Declares a type of event once; what it returns makes messages of bodies.
 *
 *     const orderCreated = event<Order>({ topic: "order", type: "OrderCreated", key: (order) => order.orderId });
 *     await publisher.publish(orderCreated({ orderId: "o-1" }));
 */
export function event<Body>(options: EventOptions<Body>): (body: Body, more?: Partial<Message<Body>>) => Message<Body> {
  const { key, ...common } = options;
  return (body, more) => ({ ...common, ...(key && { key: key(body) }), body, ...more });
}

/**
 * A message with an id, as it is sent. It can be sent any number of times and
 * is one message: a host that knows the id answers as it did before.
 */
export class Draft {
  /** Its id. */
  readonly id: string;
  /** The message; its body is what it was when the draft was made. */
  readonly message: Readonly<Message>;
  /** The body as text, if it is text. @internal */
  readonly bodyText: string | undefined;
  /** What `POST /v1/messages` takes. @internal */
  readonly json: string;
  /** The source that it was made with. @internal */
  readonly source: string | undefined;

  constructor(message: Message, source?: string) {
    const id = message.id ?? newId();
    this.id = id;
    this.source = source;
    const body = bodyOf(message.body, id);
    const frozen: Message = { ...message, id };
    this.message = Object.freeze(frozen);
    this.bodyText = typeof body === "string" ? body : utf8(body);
    if (message.delayMs !== undefined && message.deliverAt !== undefined) {
      throw new InvalidError("it has both delayMs and deliverAt; write one of them", id);
    }
    const key = message.key;
    const keyText = typeof key === "string" ? key : key && utf8(key);
    const headers = headersOf(message);
    const wire = {
      id,
      topic: message.topic,
      type: message.type,
      key: keyText,
      key_base64: key !== undefined && keyText === undefined ? base64(key as Uint8Array) : undefined,
      source,
      kind: message.kind,
      delay: message.delayMs === undefined ? undefined : `${wholeMillis(message.delayMs, id)}ms`,
      deliver_at: deliverAt(message, id),
      headers: Object.keys(headers).length > 0 ? headers : undefined,
      body_base64: typeof body === "string" ? undefined : base64(body),
    };
    const head = JSON.stringify(wire);
    // The body's own text, so that what is sent again is the same letter for letter.
    this.json = typeof body === "string" ? `${head.slice(0, -1)},"body":${body}}` : head;
  }
}

/** The headers with those that other fields say, as JSON has them. @internal */
export function headersOf(message: Readonly<Message>): Record<string, unknown> {
  const written = (value: HeaderValue): unknown =>
    value instanceof Uint8Array ? { base64: base64(value) } : value;
  const headers: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(message.headers ?? {})) {
    headers[name] = Array.isArray(value) ? value.map(written) : written(value);
  }
  if (message.contentType !== undefined) headers["content-type"] = message.contentType;
  if (message.traceparent !== undefined) headers["traceparent"] = message.traceparent;
  return headers;
}

/** A time as the host reads it. @internal */
export function deliverAt(message: Readonly<Message>, id: string): string | undefined {
  const time = message.deliverAt;
  if (time === undefined || typeof time === "string") return time;
  if (Number.isNaN(time.getTime())) throw new InvalidError("deliverAt is no time", id);
  return time.toISOString();
}

/** Whole milliseconds, rounded up so that nothing is early. @internal */
export function wholeMillis(millis: number, id?: string): number {
  const whole = Math.ceil(millis);
  if (!Number.isSafeInteger(whole) || whole < 0) {
    throw new InvalidError(`the delay is ${millis} ms; write a number from 0 on`, id);
  }
  return whole;
}

function bodyOf(body: unknown, id: string): string | Uint8Array {
  if (body instanceof Uint8Array) return body.slice();
  let text: string | undefined;
  try {
    text = JSON.stringify(body);
  } catch (error) {
    throw new InvalidError(`the body cannot be written as JSON: ${(error as Error).message}`, id);
  }
  if (text === undefined) throw new InvalidError("the body is nothing that JSON has; write null for an empty one", id);
  return text;
}

/** The text of bytes, or undefined where they are none. @internal */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** A UUID of version 7: ids of one sender sort by time. */
function newId(): string {
  const bytes = randomFillSync(Buffer.alloc(16));
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
