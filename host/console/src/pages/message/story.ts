/** The story of a message as data: its events in order, with the time between them. */
import type { Attempt, Delivery, Message, State } from "../../api/shapes";
import { millis } from "../../format/time";

export type Event =
  | { kind: "published"; at: string }
  | { kind: "due"; at: string }
  | { kind: "kafka" }
  | { kind: "sendFail"; reason: string | null; retrying: boolean }
  | { kind: "received"; at: string }
  | { kind: "attempt"; at: string; attempt: Attempt; state: State }
  | { kind: "duplicate"; at: string | null }
  | { kind: "givenUp"; at: string | null; reason: string | null }
  | { kind: "next"; at: string; number: number }
  | { kind: "held" }
  | { kind: "blocked" }
  | { kind: "waiting" }
  | { kind: "flight" }
  | { kind: "final" };

/** What happened before any group had it. */
export function opening(message: Message): Event[] {
  const events: Event[] = [{ kind: "published", at: message.time }];
  if (message.state === "SEND_FAIL") {
    events.push({ kind: "sendFail", reason: message.reason, retrying: message.retrying });
  } else if (message.partition !== null) {
    events.push({ kind: "kafka" });
  } else if (message.deliver_at) {
    events.push({ kind: "due", at: message.deliver_at });
  }
  return events;
}

/** What became of it in one group, and what comes next at the end. */
export function chapter(delivery: Delivery): Event[] {
  const events: Event[] = [];
  if (delivery.received_at) events.push({ kind: "received", at: delivery.received_at });
  for (const attempt of delivery.attempts) {
    events.push({ kind: "attempt", at: attempt.started_at, attempt, state: outcome(attempt) });
  }
  if (delivery.verdict === "given_up" && delivery.settled_at) {
    events.push({ kind: "givenUp", at: delivery.settled_at, reason: delivery.reason });
  }
  if (delivery.verdict === "duplicate") events.push({ kind: "duplicate", at: delivery.settled_at });
  if (delivery.next_attempt_at) {
    events.push({ kind: "next", at: delivery.next_attempt_at, number: (delivery.attempts.at(-1)?.number ?? 0) + 1 });
  } else if (delivery.state === "COMMITTED") {
    events.push({ kind: delivery.received_at ? "waiting" : "flight" });
  } else if (delivery.state === "HANDLE_FAIL" && !delivery.settled_at) {
    // Open, without a next attempt: its lane stands still behind it.
    events.push({ kind: "held" });
  } else if (delivery.state === "PUSH_FAIL" && !delivery.settled_at) {
    events.push({ kind: "blocked" });
  } else if (delivery.state !== "HANDLED") {
    events.push({ kind: "final" });
  }
  return events;
}

/** The state that an attempt's verdict led to. */
export function outcome(attempt: Attempt): State {
  if (attempt.verdict === "success" || attempt.verdict === "duplicate") return "HANDLED";
  return attempt.counted ? "HANDLE_FAIL" : "PUSH_FAIL";
}

/** When an event ended, for the gap to the next one. */
export function end(event: Event): number | null {
  if (event.kind === "attempt") return millis(event.attempt.finished_at);
  return "at" in event && event.at ? millis(event.at) : null;
}

export function start(event: Event): number | null {
  return "at" in event && event.at ? millis(event.at) : null;
}

/** Bounds of a gap's height in pixels. */
const LEAST = 10;
const MOST = 120;

/**
 * The height of a gap: it doubles its share with every factor of ten, so that a
 * millisecond, a second and an hour can be told apart on one page.
 */
export function height(gapMs: number): number {
  const steps = Math.log10(Math.max(1, gapMs));
  return Math.round(Math.min(MOST, LEAST + steps * 15));
}
