import { expect, test } from "vitest";
import { isNotRecorded, type Message } from "./shapes";

test("an answer that nothing is recorded is told from a message", () => {
  expect(isNotRecorded({ id: "m-1", state: "NOT_RECORDED", reason: "no ids are kept", groups: ["stock"] })).toBe(true);
  expect(isNotRecorded({ id: "m-1", state: "COMMITTED" } as Message)).toBe(false);
});
