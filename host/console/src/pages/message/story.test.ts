import { expect, it } from "vitest";
import type { Delivery } from "../../api/shapes";
import { chapter, height } from "./story";

const delivery = {
  id: "1-17",
  message_id: "m",
  group: "stock",
  topic: "order",
  partition: 0,
  offset: 17,
  key: "k",
  type: "T",
  state: "HANDLE_FAIL",
  verdict: "retry",
  reason: "busy",
  fingerprint: "f",
  node: "host-1",
  received_at: "1970-01-01T00:00:01.000000Z",
  settled_at: null,
  next_attempt_at: "1970-01-01T00:00:09.000000Z",
  attempts: [
    {
      number: 1,
      counted: true,
      version: "sha256:aa",
      node: "host-1",
      started_at: "1970-01-01T00:00:02.000000Z",
      finished_at: "1970-01-01T00:00:03.000000Z",
      verdict: "retry",
      reason: "busy",
      fingerprint: "f",
      log: null,
    },
  ],
} satisfies Delivery;

it("the next attempt stands at the end of the story", () => {
  expect(chapter(delivery).map((event) => event.kind)).toEqual(["received", "attempt", "next"]);
});

it("what is over says so unless it was handled", () => {
  const settled_at = delivery.next_attempt_at;
  expect(chapter({ ...delivery, next_attempt_at: null, settled_at }).at(-1)?.kind).toBe("final");
  expect(chapter({ ...delivery, state: "HANDLED", next_attempt_at: null }).at(-1)?.kind).toBe("attempt");
  expect(chapter({ ...delivery, state: "COMMITTED", next_attempt_at: null, attempts: [] }).at(-1)?.kind).toBe(
    "waiting",
  );
});

it("what was given up says so, with its reason and without an attempt of its own", () => {
  const settled_at = delivery.next_attempt_at;
  const events = chapter({ ...delivery, verdict: "given_up", reason: "a double", next_attempt_at: null, settled_at });
  expect(events.map((event) => event.kind)).toEqual(["received", "attempt", "givenUp", "final"]);
  expect(events[2]).toMatchObject({ at: settled_at, reason: "a double" });
});

it("a lane that waits for a person says so", () => {
  expect(chapter({ ...delivery, next_attempt_at: null }).at(-1)?.kind).toBe("held");
});

it("gaps grow with time and stay on the page", () => {
  const heights = [0, 1, 10, 1_000, 60_000, 3_600_000, 1e15].map(height);
  expect([...heights].sort((one, other) => one - other)).toEqual(heights);
  expect(heights.at(-1)).toBeLessThanOrEqual(120);
});
