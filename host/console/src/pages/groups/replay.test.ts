import { expect, it } from "vitest";
import { type Asked, isSpan, replayFilter } from "./replay";

const asked: Asked = { group: "stock", topic: "order", partition: "2", by: "offsets", from: "10", to: "20" };

it("a replay names its range as the host takes it", () => {
  const common = { group: "stock", topic: "order", replay: true };
  expect(replayFilter(asked)).toEqual({ ...common, partition: 2, from_offset: 10, to_offset: 20 });
  expect(replayFilter({ ...asked, from: "", to: "" })).toEqual({ ...common, partition: 2 });
  expect(replayFilter({ ...asked, partition: "", by: "times", from: " 24h ", to: "" })).toEqual({
    ...common,
    from: "24h",
  });
});

it("a range that ends before it begins is none", () => {
  expect(isSpan(asked)).toBe(true);
  expect(isSpan({ ...asked, to: "" })).toBe(true);
  expect(isSpan({ ...asked, to: "10" })).toBe(false);
});
