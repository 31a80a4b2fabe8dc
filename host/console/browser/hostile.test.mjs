// What strangers write is shown, and does nothing else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { api, group, hostile, inBrowser, signIn, tokens, topic, until, url } from "./support.mjs";

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
  '<link rel=stylesheet href="http://elsewhere.invalid/x.css"><img src="http://elsewhere.invalid/x.png">',
];
/** Nearly 1 MiB, which is all that a message may have. */
const LONG = "<b>x</b>".repeat(129_000);
const BATCH = 20;

/** The text of one place of one message; each place has another one, and every pair meets. */
function words(number, place) {
  return SCRIPTS[(number + place * (1 + Math.floor(number / SCRIPTS.length))) % SCRIPTS.length];
}

/** One message, with something hostile in each place that a stranger fills. */
function message(number) {
  // A type and a header's name may have no control characters; keys, values and bodies may have any.
  const type = `T ${words(number, 3)
    .slice(0, 60)
    .replace(/[^ -~]/g, "")}`;
  const key = `hostile-${number} ${words(number, 1).slice(0, 200)}`;
  const common = { topic, type, key, headers: { hostile: words(number, 4).slice(0, 500) } };
  if (number % 50 === 15) return { ...common, body_base64: Buffer.from(words(number, 0).repeat(9)).toString("base64") };
  const log = number % 50 === 13 ? LONG.slice(0, 900_000) : words(number, 2).repeat(3);
  const body = { do: ["say+because"], say: log, because: words(number, 1), [words(number, 0)]: words(number, 0) };
  if (number % 50 === 11) return { ...common, body: { ...body, do: ["because"], say: "", long: LONG } };
  return { ...common, body };
}

/** How one line of text stands on the page when it is text that can be seen. */
function isPlain(text) {
  return /^[ -~]*$/.test(text);
}

/** What a page may never have done, whatever it shows. */
async function harmless(page, where) {
  const found = await page.evaluate(() => ({
    ran: window.__ran ?? null,
    injected: document.querySelectorAll(
      "#injected, main img, main iframe, main script, main style, main h1 h1, main link",
    ).length,
    links: [...document.links].filter((link) => link.protocol === "javascript:").length,
    at: location.origin,
  }));
  assert.deepEqual(found, { ran: null, injected: 0, links: 0, at: new URL(url).origin }, where);
}

test(`${hostile} hostile messages do nothing but show as text`, async () => {
  const ids = [];
  for (let from = 0; from < hostile; from += BATCH) {
    const batch = Array.from({ length: Math.min(BATCH, hostile - from) }, (_, at) => message(from + at));
    for (const { id } of (await api("POST", "/v1/messages", batch)).items) ids.push(id);
  }
  assert.equal(new Set(ids).size, hostile, "every message has an id of its own");
  await until("all of them are finished", async () => {
    const { deliveries } = await api("GET", `/v1/messages/${ids.at(-1)}`);
    return deliveries?.some((delivery) => delivery.settled_at);
  });
  await inBrowser({}, (page) => look(page, ids));
});

async function look(page, ids) {
  await signIn(page, tokens.admin);
  const lists = [
    `/deliveries?group=${group}`,
    "/sent",
    `/deliveries?group=${group}&view=failures`,
    `/groups/${group}`,
    "/audit",
    `/find?q=${encodeURIComponent(SCRIPTS[1])}`,
    `/deliveries?key=${encodeURIComponent(SCRIPTS[0])}`,
    `/messages/${encodeURIComponent(SCRIPTS[0])}`,
  ];
  for (const list of lists) {
    await page.goto(url + list);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.waitForTimeout(300);
    await harmless(page, list);
  }
  let logs = 0;
  for (const [number, id] of ids.entries()) {
    await page.goto(`${url}/messages/${encodeURIComponent(id)}`);
    await page.getByTestId("body").waitFor();
    // Everything that is folded away is unfolded: headers and logs.
    await page.evaluate(() => {
      for (const folded of document.querySelectorAll("details")) folded.open = true;
    });
    await harmless(page, `message ${number}`);
    const { because, say } = message(number).body ?? {};
    if (because && isPlain(because))
      assert.equal(await page.getByTestId("reason").first().textContent(), because, `the reason of message ${number}`);
    if (say) {
      const shown = (await page.getByTestId("log").first().textContent()) ?? "";
      if (isPlain(say))
        assert.ok(shown.includes(say.slice(0, 2_000)), `the log of message ${number}: ${shown.slice(0, 300)}`);
      logs += 1;
    }
    // Of a long body the beginning is drawn, and this stands at its end.
    if (words(number, 0).includes("\u202e") && ![11, 13, 15].includes(number % 50)) {
      const body = (await page.getByTestId("body").textContent()) ?? "";
      assert.ok(body.includes("U+202E"), `the body of message ${number}: ${body.slice(0, 300)}`);
    }
  }
  assert.ok(logs > hostile * 0.9, `only ${logs} messages had a log`);
  console.log(`${ids.length} messages looked at, ${logs} of them with a hostile log`);
}
