import { expect, it } from "vitest";
import { least, target } from "./table-measures";

it("keys move between rows and every other key stays where it is", () => {
  const led = ["ArrowDown", "ArrowUp", "PageDown", "Home", "End", "x"].map((key) => target(key, 5, 100));
  expect(led).toEqual([6, 4, 25, 0, 99, null]);
});

it("a table is as wide as its columns need at least", () => {
  expect(least(["16px", "minmax(104px, 1.1fr)", "1fr"])).toBe(16 + 104 + 14 * 4);
});
