// Takes a picture of every page of a running host, in each size, light and
// language:  node scripts/pictures.mjs FOLDER [--only NAME] [--looks 1280-light-en,..] [--cut]
// COURIER_SERVER says where the host is (one of scripts/stage.mjs, say) and
// COURIER_TOKEN how to sign in; COURIER_CONSOLE, when another server shows its
// console (`vite preview`). Cut, a picture has what is seen without scrolling.
// Says what is wider than its page.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, looks: { type: "string" }, cut: { type: "boolean", default: false } },
});
const folder = positionals[0] ?? "pictures";
mkdirSync(folder, { recursive: true });
const url = process.env.COURIER_SERVER ?? "http://127.0.0.1:7071";
const console_ = process.env.COURIER_CONSOLE ?? url;
const token = process.env.COURIER_TOKEN ?? "stage";
const LOOKS = ["1280-light-en", "1280-dark-zh", "390-light-zh", "390-dark-en"];

async function first(path) {
  const answer = await fetch(url + path, { headers: { authorization: `Bearer ${token}` } });
  return (await answer.json()).items?.[0];
}

/** Every page by a name for its picture; one of each kind of thing that there is. */
async function pages() {
  const message = async (query) => {
    const found = await first(`/v1/deliveries?${query}&limit=1`);
    return found && `/messages/${encodeURIComponent(found.message_id)}`;
  };
  const sent = async (query) => {
    const found = await first(query);
    return found && `/messages/${encodeURIComponent(found.id)}`;
  };
  const redrives = (await (await fetch(`${url}/v1/redrives`, { headers: { authorization: `Bearer ${token}` } })).json())
    .items;
  const redrive = redrives?.find((one) => one.state === "PAUSED") ?? redrives?.[0];
  const half = async (state) => {
    const found = await first(`/v1/transactions?state=${state}`);
    return found && `/half-messages?id=${encodeURIComponent(found.id)}`;
  };
  const plugin = (await first("/v1/plugins"))?.name;
  const found = {
    overview: "/",
    sent: "/sent",
    "sent-failed": "/sent?state=SEND_FAIL",
    deliveries: "/deliveries",
    "deliveries-filtered": "/deliveries?group=billing&state=HANDLE_FAIL",
    failures: "/deliveries?view=failures",
    "message-failed": await message("group=validation&state=HANDLE_FAIL"),
    "message-attempts": await message("group=billing&state=HANDLE_FAIL"),
    "message-held": await message("group=shipping&state=HANDLE_FAIL"),
    "message-push-fail": await message("group=loyalty-points-and-rewards&state=PUSH_FAIL"),
    "message-broadcast": await message("group=prices&state=HANDLED"),
    "message-delayed": await sent("/v1/delayed?limit=1"),
    "message-refused": await sent("/v1/messages?state=SEND_FAIL&limit=1"),
    find: "/find?q=order-1003",
    "find-nothing": "/find?q=nothing-like-it",
    groups: "/groups",
    group: "/groups/billing",
    "group-stock": "/groups/stock",
    "group-held": "/groups/shipping",
    "group-broadcast": "/groups/prices",
    plugins: "/plugins",
    plugin: plugin && `/plugins/${plugin}`,
    "plugin-publishes": "/plugins/stock-reserver",
    delayed: "/delayed",
    halves: "/half-messages",
    "half-prepared": await half("PREPARED"),
    "half-committed": await half("COMMITTED"),
    "half-abandoned": await half("ABANDONED"),
    outboxes: "/outboxes",
    dead: "/dead-letters",
    redrives: "/redrives",
    redrive: redrive && `/redrives/${redrive.id}`,
    nodes: "/nodes",
    audit: "/audit",
    missing: "/no-such-page",
  };
  return Object.entries(found).filter(
    ([name, path]) => path && (!values.only || values.only.split(",").includes(name)),
  );
}

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
const list = await pages();
for (const look of (values.looks ?? LOOKS.join()).split(",")) {
  const [width, light, language] = look.split("-");
  const context = await browser.newContext({
    viewport: { width: Number(width), height: Number(width) < 600 ? 844 : 860 },
    colorScheme: light,
    locale: language === "zh" ? "zh-CN" : "en-GB",
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.log(`${look}: ${error.message}`));
  await page.goto(console_);
  const shot = (name) => page.screenshot({ path: join(folder, `${name}-${look}.png`), fullPage: !values.cut });
  const field = page.locator('input[type="password"]');
  await page.locator("main").first().waitFor();
  if (await field.count()) {
    if (!values.only || values.only.includes("sign-in")) await shot("sign-in");
    await field.fill(token);
    await page.keyboard.press("Enter");
    await page.locator("h1").first().waitFor();
    await page.locator("#main").waitFor();
  }
  for (const [name, path] of list) {
    await page.goto(console_ + path);
    await page.locator("#main h1").first().waitFor();
    await page.waitForTimeout(700);
    await shot(name);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) console.log(`${name}-${look} is ${wide} px wider than its page`);
  }
  await context.close();
}
await browser.close();
console.log(`${folder} has the pictures`);
