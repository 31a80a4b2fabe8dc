import { expect, it } from "vitest";
import { pageOf } from "../pages/overview/page-of";
import { only, parseSearch, writeSearch } from "./search";

it("filters and the URL say the same", () => {
  const filter = { group: "stock", key: "a&b=c d/é", state: "HANDLE_FAIL" };
  const url = writeSearch(filter);
  expect(url).toBe("?group=stock&key=a%26b%3Dc+d%2F%C3%A9&state=HANDLE_FAIL");
  expect(parseSearch(url)).toEqual(filter);
  expect(writeSearch({ group: undefined, key: "" })).toBe("");
});

it("a stray member of the URL never reaches a list", () => {
  expect(only({ group: "stock", evil: "1", limit: 9, topic: "" }, ["group", "topic"])).toEqual({ group: "stock" });
});

it("numbers stay text, as keys must", () => {
  expect(only({ key: 17 }, ["key"])).toEqual({ key: "17" });
  expect(parseSearch("?key=0017")).toEqual({ key: "0017" });
});

it("every path that the host names has a page", () => {
  expect(pageOf("/v1/groups/a%2Fb")).toBe("/groups/a%2Fb");
  expect(pageOf("/v1/deliveries?group=stock&state=HANDLE_FAIL")).toBe("/deliveries?group=stock&state=HANDLE_FAIL");
  expect(pageOf("/v1/outboxes/shop")).toBe("/outboxes");
  expect(pageOf("/v1/transactions/t-1")).toBe("/half-messages?id=t-1");
  expect(pageOf("/v1/lost-ranges")).toBe("/nodes");
  expect(pageOf("/readyz")).toBe("/");
});
