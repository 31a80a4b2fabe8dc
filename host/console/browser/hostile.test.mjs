// What strangers write is shown, and does nothing else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { api, group, hostile, open, signIn, tokens, topic, until, url } from "./support.mjs";

const SCRIPTS = [
  "<script>window.__ran = 1; alert(1)</script>",
  '<img src=x onerror="window.__ran = 1; alert(1)">',
  "<svg onload=alert(1)>",
  '"><iframe src="javascript:alert(1)"></iframe>',
  "javascript:alert(1)",
  "{{constructor.constructor('alert(1)')()}}",
  `$\{alert(1)}`,
  "</pre></main><h1 id=injected>injected</h1>",
  "\u202egnp.exe\u202c",
  "\u0001\u0007\u001b[31mred\u001b[0m\u001b]0;title\u0007",
  "\u200b\u2066hidden\u2069\ufeff",
  "a".repeat(3_000),
  "<style>*{display:none}</style>",
  "<a href=javascript:alert(1)>press</a>",
  "﷽".repeat(50),
  "-->]]><!--",
];

/** Bodies that are JSON, text and bytes; one is 1 MiB long. */
function message(number) {
  const words = SCRIPTS[number % SCRIPTS.length];
  // A type may have no control characters; keys and bodies may have any.
  const type = `T ${words.slice(0, 60).replace(/[^ -~]/g, "")}`;
  const common = { topic, type, key: `hostile-${number} ${words.slice(0, 200)}` };
  if (number % 16 === 15) return { ...common, body_base64: Buffer.from(words.repeat(9)).toString("base64") };
  if (number === 11) return { ...common, body: { do: ["error"], words: "<b>x</b>".repeat(130_900) } };
  // A word that the guest does not know comes back in its reason.
  return { ...common, body: { do: [words.replaceAll("+", " ").slice(0, 500)], [words]: words } };
}

test(`${hostile} hostile messages do nothing but show as text`, async () => {
  const ids = [];
  for (let number = 0; number < hostile; number += 1) ids.push((await api("POST", "/v1/messages", message(number))).id);
  await until("all of them are finished", async () => {
    const { deliveries } = await api("GET", `/v1/messages/${ids.at(-1)}`);
    return deliveries?.some((delivery) => delivery.settled_at);
  });
  const { page, close } = await open();
  await signIn(page, tokens.admin);
  const harmless = async (where) => {
    const found = await page.evaluate(() => ({
      ran: window.__ran ?? null,
      injected: document.querySelectorAll("#injected, main img, main iframe, main script, main style, main h1 h1")
        .length,
      links: [...document.links].filter((link) => link.protocol === "javascript:").length,
      title: document.title,
    }));
    assert.deepEqual({ ...found, title: "" }, { ran: null, injected: 0, links: 0, title: "" }, where);
  };
  for (const list of [
    `/deliveries?group=${group}`,
    "/sent",
    `/deliveries?group=${group}&view=failures`,
    `/groups/${group}`,
    "/audit",
  ]) {
    await page.goto(url + list);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.waitForTimeout(300);
    await harmless(list);
  }
  for (const [number, id] of ids.entries()) {
    await page.goto(`${url}/messages/${encodeURIComponent(id)}`);
    await page.getByTestId("body").waitFor();
    await harmless(`message ${number}`);
    if (number === 0) {
      assert.match((await page.getByTestId("reason").first().textContent()) ?? "", /<script>window\.__ran/);
      assert.match((await page.getByTestId("body").textContent()) ?? "", /<script>window\.__ran/);
    }
    if (number === 8) assert.match((await page.getByTestId("body").textContent()) ?? "", /U\+202E/);
  }
  await close();
});
