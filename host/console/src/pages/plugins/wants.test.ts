import { expect, it } from "vitest";
import { wants } from "./wants";

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
