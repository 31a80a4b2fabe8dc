/** The answer to a message that was taken: it is durable. */
export interface Receipt {
  /** The message's id, to ask for. */
  id: string;
  /** COMMITTED: Kafka has it, or the host until it is due. SEND_FAIL: see `retrying`. */
  state: "COMMITTED" | "SEND_FAIL";
  /**
   * Whether the host goes on trying by itself: Kafka was away, and the message
   * goes out when it is back. There is nothing to do for the sender.
   */
  retrying: boolean;
  /** Why nobody will handle it, when no group takes such messages. */
  warning?: string;
}

/** A message and what became of it. Times are RFC 3339 with microseconds. */
export interface MessageView {
  id: string;
  key: string | null;
  /** A key that is not text, instead of `key`. */
  keyBase64?: string;
  source: string | null;
  topic: string;
  type: string | null;
  kind: "event" | "broadcast";
  time: string;
  state: "COMMITTED" | "SEND_FAIL";
  /** Why it is SEND_FAIL. */
  reason: string | null;
  retrying: boolean;
  partition: number | null;
  offset: number | null;
  contentType: string | null;
  headers: Record<string, unknown> | null;
  /** A body that is JSON. */
  body?: unknown;
  /** Any other body. */
  bodyBase64?: string;
  /** Why the body is not at hand. */
  bodyMissing?: string;
  deliverAt: string | null;
  /** One for each group; for each node of it if it is a broadcast. */
  deliveries: Delivery[];
  warning?: string;
  /** Other messages of the same id. */
  also?: PlaceView[];
}

/** One message for one group. */
export interface Delivery {
  id: string;
  messageId: string;
  group: string;
  topic: string;
  partition: number;
  offset: number;
  state: "COMMITTED" | "PUSH_FAIL" | "HANDLE_FAIL" | "HANDLED";
  verdict: string | null;
  reason: string | null;
  fingerprint: string | null;
  node: string | null;
  receivedAt: string | null;
  settledAt: string | null;
  /** When it runs again; null means final, or that its turn has not come. */
  nextAttemptAt: string | null;
  attempts: Attempt[];
}

/** One run of a handler. */
export interface Attempt {
  number: number;
  counted: boolean;
  version: string | null;
  node: string;
  startedAt: string;
  finishedAt: string;
  verdict: string;
  reason: string | null;
  fingerprint: string | null;
  log: string | null;
}

/** Another message of the same id. */
export interface PlaceView {
  topic: string;
  partition: number | null;
  offset: number | null;
  source: string | null;
  time: string | null;
  createdAt: string | null;
  state: string;
}

type Wire = Record<string, unknown>;

/** The host's answer under the names of this language; bodies and headers stay as they are. */
export function messageView(wire: Wire): MessageView {
  const message = camel(wire);
  message["deliveries"] = list(wire["deliveries"]).map((delivery) => {
    return { ...camel(delivery), attempts: list(delivery["attempts"]).map(camel) };
  });
  if (wire["also"] !== undefined) message["also"] = list(wire["also"]).map(camel);
  return message as unknown as MessageView;
}

function list(value: unknown): Wire[] {
  return Array.isArray(value) ? (value as Wire[]) : [];
}

function camel(wire: Wire): Wire {
  const names = Object.entries(wire).map(([name, value]) => [
    name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()),
    value,
  ]);
  return Object.fromEntries(names) as Wire;
}
