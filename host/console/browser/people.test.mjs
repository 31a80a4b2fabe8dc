// Who may do what, and in which language.
import assert from "node:assert/strict";
import { test } from "node:test";
import { group, open, plugin, signIn, tokens, url } from "./support.mjs";

test("a viewer sees everything and may change nothing", async () => {
  const { page, close } = await open();
  await signIn(page, tokens.viewer);
  await page.goto(`${url}/groups/${group}`);
  const pause = page.getByRole("button", { name: "Pause" });
  await pause.waitFor();
  assert.equal(await pause.getAttribute("aria-disabled"), "true");
  assert.match((await pause.getAttribute("title")) ?? "", /needs the role operator; you are viewer/);
  await pause.click({ force: true });
  assert.equal(await page.getByRole("dialog").count(), 0);
  await page.goto(`${url}/plugins/${plugin}`);
  await page.getByText("Uploading needs the role admin.").waitFor();
  assert.equal(await page.locator('input[type="file"]').count(), 0);
  // What the page does not offer, the host refuses as well.
  const status = await page.evaluate(async (path) => {
    const { csrf } = await (await fetch("/v1/me")).json();
    const headers = { "content-type": "application/json", "x-courier-csrf": csrf };
    return (await fetch(path, { method: "POST", headers, body: "{}" })).status;
  }, `/v1/groups/${group}/pause`);
  assert.equal(status, 403);
  await close();
});

test("a token that nobody has is refused in words, and scripts cannot read a session", async () => {
  const { page, close } = await open();
  await page.goto(url);
  await page.getByLabel("Token").fill("nobody");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").filter({ hasText: "nobody has this token" }).waitFor();
  await page.getByLabel("Token").fill(tokens.admin);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation").waitFor();
  assert.equal(await page.evaluate(() => document.cookie), "");
  await close();
});

test("English and Chinese, and the choice is remembered", async () => {
  const { page, close } = await open();
  await signIn(page, tokens.admin);
  await page.getByRole("link", { name: "Deliveries" }).waitFor();
  await page.getByRole("button", { name: /中文/ }).click();
  await page.getByRole("link", { name: "投递", exact: true }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "概览" }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "zh-CN");
  await page.getByRole("button", { name: /English/ }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await close();
});

test("the keyboard alone is enough", async () => {
  const { page, close } = await open();
  await signIn(page, tokens.admin);
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("Go to the search").waitFor();
  await page.keyboard.press("Escape");
  await page.goto(`${url}/deliveries?group=${group}`);
  await page.getByRole("row").nth(1).focus();
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction(() => document.activeElement?.getAttribute("data-index") === "1");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/messages\//);
  await close();
});
