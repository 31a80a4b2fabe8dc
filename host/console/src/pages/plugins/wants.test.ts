import { expect, it } from "vitest";
import { made, wants } from "./wants";

it("says imports in words and hides none it does not know", () => {
  const found = wants([
    "courier:plugin/log@0.1.0",
    "courier:plugin/publish@0.1.0",
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:filesystem/preopens@0.2.0",
    "alien:thing/api@1.0.0",
  ]);
  expect(found.words.sort()).toEqual(["http", "publish"]);
  expect(found.other).toEqual(["alien:thing/api@1.0.0"]);
});

it("what a component says of itself is taken only where it makes sense", () => {
  expect(made({ group: "stock", topics: ["order"], types: [], publishes: [1, "stock"], name: 7 })).toEqual({
    group: "stock",
    topics: ["order"],
    publishes: ["stock"],
  });
  for (const strange of [null, "text", 7, [1], { group: {}, topics: "order" }]) expect(made(strange)).toEqual({});
});
