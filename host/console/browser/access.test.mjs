// Every page for people who do not see it, or see it otherwise: axe-core finds
// nothing serious, in light and dark, in both languages, wide and on a phone.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { before, test } from "node:test";
import { api, group, inBrowser, plugin, signIn, tokens, topic, until, url } from "./support.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const GRAVE = ["serious", "critical"];
const LOOKS = [
  { colorScheme: "light", locale: "en-GB" },
  { colorScheme: "dark", locale: "zh-CN", viewport: { width: 390, height: 844 } },
];
let pages = [];

before(async () => {
  const message = (key, more) => ({ topic, type: "Seen", key, body: { do: ["ok"] }, ...more });
  const { id: delayed } = await api("POST", "/v1/messages", message("axe-delayed", { delay: "3h" }));
  // A key of its own: a lane that waits for an earlier run would hold it back.
  const failing = message(`axe-failed-${Date.now()}`, {
    body: { do: ["say+because"], say: "a line of log", because: "it did not work" },
  });
  const { id: failed } = await api("POST", "/v1/messages", failing);
  const { id: refused } = await api("POST", "/v1/messages", message("axe-late", { delay: "4h" }));
  await api("DELETE", `/v1/messages/${refused}`);
  await api(
    "POST",
    "/v1/messages",
    message("axe-dead", { type: "Doomed", body: { do: ["because"], because: "nobody wants it" } }),
  );
  const half = await api("POST", "/v1/transactions", { messages: [message("axe-half", {})], timeout: "1h" });
  await until("the failed one was attempted", async () => {
    const { deliveries } = await api("GET", `/v1/messages/${failed}`);
    return deliveries?.some((delivery) => delivery.attempts.length > 0);
  });
  await until("the dead letter is listed", async () => (await api("GET", "/v1/dead-letters")).items.length > 0);
  const redrive = await api("POST", "/v1/redrives", { filter: { group, state: "HANDLE_FAIL", key: failing.key } });
  pages = [
    "/",
    "/sent",
    "/deliveries",
    "/deliveries?view=failures",
    `/deliveries?group=${group}&state=HANDLE_FAIL`,
    `/messages/${failed}`,
    `/messages/${delayed}`,
    `/messages/${refused}`,
    `/find?q=${failing.key}`,
    "/find?q=nothing-like-it",
    "/groups",
    `/groups/${group}`,
    "/plugins",
    `/plugins/${plugin}`,
    "/delayed",
    "/half-messages",
    `/half-messages?id=${half.id}`,
    "/outboxes",
    "/dead-letters",
    "/redrives",
    `/redrives/${redrive.id}`,
    "/nodes",
    "/audit",
    "/no-such-page",
  ];
});

/** What axe-core finds on the page as it stands. The policy of the host binds the page, not the debugger. */
async function faults(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter((one) => GRAVE.includes(one.impact))
    .map(
      (one) => `${where}: ${one.id} (${one.impact}), ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3)}`,
    );
}

for (const look of LOOKS) {
  test(`no page has a serious fault of access: ${look.colorScheme}, ${look.locale}`, () =>
    inBrowser(look, async (page) => {
      await page.goto(url);
      const token = page.locator('input[type="password"]');
      await token.waitFor();
      const found = await faults(page, "sign-in");
      await token.fill(tokens.admin);
      await page.keyboard.press("Enter");
      await page.locator("#main").waitFor();
      for (const path of pages) {
        await page.goto(url + path);
        await page.locator("#main h1").waitFor();
        await page.waitForTimeout(300);
        found.push(...(await faults(page, path)));
        // Nothing stands beyond the edge of the page.
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (wide > 0) found.push(`${path} is ${wide} px wider than its page`);
      }
      console.log(`${pages.length + 1} pages looked at, ${found.length} serious faults`);
      assert.deepEqual(found, []);
    }));
}

test("no dialog has a serious fault of access", () =>
  inBrowser({}, async (page) => {
    await signIn(page, tokens.admin);
    const found = [];
    await page.goto(`${url}/groups/${group}`);
    for (const name of ["Pause", "Move positions…", "Replay a range…"]) {
      await page.getByRole("button", { name }).click();
      await page.getByRole("dialog").waitFor();
      found.push(...(await faults(page, name)));
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").waitFor({ state: "detached" });
    }
    assert.deepEqual(found, []);
  }));
