import { expect, it } from "vitest";
import { command } from "./examples";

it("an example reaches the host of the page", () => {
  expect(command("push", "http://127.0.0.1:7070")).not.toContain("--server");
  expect(command("publish", "https://courier.example.com")).toMatch(/ --server https:\/\/courier\.example\.com$/);
  expect(command("outboxSchema", "https://courier.example.com")).not.toContain("--server");
});
