// Prints how long the overview of a running host takes to be painted, from
// nothing in the browser's cache:  node scripts/paint.mjs [RUNS]
// COURIER_SERVER says where the host is and COURIER_TOKEN how to sign in.
import { chromium } from "playwright-core";

const url = process.env.COURIER_SERVER ?? "http://127.0.0.1:7070";
const runs = Number(process.argv[2] ?? 10);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
const page = await context.newPage();
await page.goto(url);
await page.locator("main").first().waitFor();
const field = page.locator('input[type="password"]');
if (await field.count()) {
  await field.fill(process.env.COURIER_TOKEN ?? "");
  await page.keyboard.press("Enter");
  await page.locator("#main").waitFor();
}
const cdp = await context.newCDPSession(page);
await cdp.send("Network.setCacheDisabled", { cacheDisabled: true });
const first = [];
const groups = [];
for (let run = 0; run < runs; run += 1) {
  await page.goto(url);
  // The table of groups is what the overview is opened for.
  await page.locator('[role="grid"]').first().waitFor();
  const [painted, shown] = await page.evaluate(() => [
    performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Number.NaN,
    performance.now(),
  ]);
  first.push(painted);
  groups.push(shown);
}
await browser.close();
function line(what, values) {
  const sorted = values.toSorted((one, other) => one - other);
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
  console.log(`${what.padEnd(34)} median ${at(0.5)} ms, slowest ${at(1)} ms of ${sorted.length} runs`);
}
line("first contentful paint", first);
line("groups and what needs a person", groups);
