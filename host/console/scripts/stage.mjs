// A host with something on every page, to look at and to take pictures of:
//   node scripts/stage.mjs COURIER GUESTS [--listen 127.0.0.1:7071] [--calm] [--stream]
// COURIER is the host's program, GUESTS the folder that `cargo xtask guests`
// fills. It runs `courier dev` twice on one store, so that ranges are lost in
// between (once when it is to be calm), and stays until Ctrl-C, with a stream of
// orders when one is wanted; everything it wrote goes with it.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    listen: { type: "string", default: "127.0.0.1:7071" },
    calm: { type: "boolean", default: false },
    stream: { type: "boolean", default: false },
  },
});
const [courier, guests] = positionals;
if (!courier || !guests) {
  console.error("usage: node scripts/stage.mjs COURIER GUESTS [--listen ADDRESS] [--calm] [--stream]");
  process.exit(2);
}
const url = `http://${values.listen}`;
const folder = mkdtempSync(join(tmpdir(), "courier-stage-"));
const shop = join(folder, "shop.db");
const TOKEN = "stage";
let host;

/** Answers when the host asks what became of a transaction. */
const sender = createServer((request, answer) => {
  const state = request.url.includes("lost") ? null : "UNKNOWN";
  answer.writeHead(state ? 200 : 500, { "content-type": "application/json" });
  answer.end(JSON.stringify(state ? { state } : { error: "no such order" }));
});
sender.listen(0, "127.0.0.1");
await once(sender, "listening");
const checks = `http://127.0.0.1:${sender.address().port}`;

const binding = (group, topics, plugin, more = "") =>
  `[[binding]]\ngroup = "${group}"\ntopics = ${JSON.stringify(topics)}\nplugin = "${plugin}"\n${more}\n`;
const CONFIG = `
[server]
listen = "${values.listen}"
node = "host-1"
[auth]
tokens = [
  { name = "mira", role = "admin", env = "STAGE_ADMIN" },
  { name = "guest", role = "viewer", env = "STAGE_VIEWER" },
]
[transactions]
check_urls = ["${checks}/*"]
[[outbox]]
name = "shop"
url = "sqlite://${shop}"
[[outbox]]
name = "warehouse"
url = "postgres://courier@warehouse.example.invalid/warehouse"
table = "events.courier_outbox"
${binding("billing", ["order"], "invoicer", `dead_letter = true\n[binding.retry]\nmax_attempts = 6\ninitial = "1s"\nmultiplier = 3\nmax = "30m"`)}
${binding("stock", ["order"], "stock-reserver", `types = ["OrderCreated"]\ndedupe = "10m"\nrate_limit = 200\n[binding.retry]\nmax_attempts = 5\n[binding.grant]\npublish = ["stock"]\nstate = true\n[binding.http]\nallow = ["rates.example.com:443"]`)}
${binding("validation", ["order"], "order-validator", `types = ["OrderCreated"]\n[binding.config]\nmax_quantity = "500"`)}
${binding("shipping", ["order", "shipment"], "shipper", `dead_letter = "hold"\n[binding.retry]\nmax_attempts = 2\ninitial = "200ms"`)}
${binding("mail", ["order"], "mailer", `types = ["OrderCreated"]\nordering = "none"\nconcurrency = 16\nisolation = "instance"`)}
${binding("loyalty-points-and-rewards", ["order"], "loyalty")}
${binding("prices", ["price"], "cache-warmer")}
`;
const config = join(folder, "courier.toml");
writeFileSync(config, CONFIG);
spawnSync("sqlite3", [shop], { input: spawnSync(courier, ["outbox", "schema", "--for", "sqlite"]).stdout });

async function api(method, path, body, type = "application/json") {
  const answer = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": type },
    body: body === undefined ? undefined : type === "application/json" ? JSON.stringify(body) : body,
  });
  const text = await answer.text();
  if (!answer.ok && ![400, 413].includes(answer.status)) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

async function start() {
  host = spawn(courier, ["dev", "--config", config, "--data", join(folder, "data")], {
    env: { ...process.env, STAGE_ADMIN: TOKEN, STAGE_VIEWER: "looks" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  host.stderr.on("data", (part) => {
    said = (said + part).slice(-4_000);
  });
  for (let tries = 0; tries < 150; tries += 1) {
    const ready = await fetch(`${url}/readyz`).catch(() => null);
    if (ready?.ok) return;
    if (host.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`the host is not ready:\n${said}`);
}

async function stop() {
  host.kill("SIGTERM");
  await once(host, "exit");
}

async function upload(name, file, activate = true) {
  const component = readFileSync(join(guests, `${file}.wasm`));
  await api("PUT", `/v1/plugins/${name}?activate=${activate}`, component, "application/wasm");
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const order = (number, more) => ({
  topic: "order",
  type: "OrderCreated",
  source: "shop",
  key: `order-${1000 + number}`,
  headers: {
    traceparent: `00-4bf92f3577b34da6a3ce929d0e0e${String(number % 10_000).padStart(4, "0")}-00f067aa0ba902b7-01`,
  },
  body: {
    order_id: `order-${1000 + number}`,
    order_name: ["tea", "coffee", "cups", "a kettle"][number % 4],
    quantity: 1 + (number % 9),
    price_cents: 350 + ((number * 37) % 2_000),
    ...more,
  },
});
const LOG = "asking the ledger for the customer\nledger answered 503 after 41 ms\ngiving up for now";
const AWAY = {
  do: ["say+because"],
  say: LOG,
  because: "ledger answered 503: the service is in maintenance until 06:00",
};
const TAX = {
  do: ["say+because", "say+because", "ok"],
  say: LOG,
  because: 'no tax rate for country "XK" on 2026-01-31 (rates.csv, 214 rows)',
};

/** An order that some group will have trouble with, now and then. */
function anyOrder(number) {
  if (number % 23 === 5) return order(number, { quantity: 900 + number });
  if (number % 11 === 3) return order(number, AWAY);
  if (number % 17 === 7) return order(number, TAX);
  return order(number, number % 40 === 9 ? { do: ["trap"] } : {});
}

/** The traffic of a morning. */
async function traffic() {
  const orders = Array.from({ length: 400 }, (_, number) => anyOrder(number));
  for (let from = 0; from < orders.length; from += 40) {
    await api("POST", "/v1/messages", orders.slice(from, from + 40));
    await wait(150);
  }
  const shipment = (number, entry) => ({
    topic: "shipment",
    type: "ShipmentPacked",
    source: "warehouse",
    key: `parcel-${number}`,
    body: { parcel: number, do: [entry], because: "carrier refuses the label: the postcode does not match the city" },
  });
  await api(
    "POST",
    "/v1/messages",
    [1, 2, 3].flatMap((n) => [shipment(n, "because"), shipment(n, "ok"), shipment(n, "ok")]),
  );
  const prices = Array.from({ length: 5 }, (_, number) => ({
    topic: "price",
    type: "PricesChanged",
    kind: "broadcast",
    body: { list: number },
  }));
  await api("POST", "/v1/messages", prices);
  const later = ["2s", "30m", "2h", "26h", "9d", "45d"].map((delay, number) => ({
    ...order(500 + number, {}),
    type: "OrderTimedOut",
    delay,
  }));
  await api("POST", "/v1/messages", later);
  const { items } = await api("GET", "/v1/delayed?limit=1");
  if (items[0]) await api("DELETE", `/v1/messages/${encodeURIComponent(items[0].id)}`);
  await api("POST", "/v1/messages", {
    topic: "order",
    type: "OrderCreated",
    key: "order-9",
    body: "x".repeat(1_100_000),
  });
  await api("POST", "/v1/messages", { ...order(9), delay: "soon" });
}

/** Orders as a shop sends them, some minutes more than others, until the host is gone. */
async function stream() {
  let next = 1_000;
  while (host.exitCode === null && !host.killed) {
    const many = 6 + Math.round(5 * Math.sin(Date.now() / 40_000));
    const first = next;
    next += many;
    const orders = Array.from({ length: many }, (_, at) => anyOrder(first + at));
    await api("POST", "/v1/messages", orders).catch(() => {});
    await wait(500);
  }
}

async function halves() {
  const prepare = (number, more) =>
    api("POST", "/v1/transactions", { messages: [order(700 + number, {}), order(720 + number, {})], ...more });
  await prepare(1, { timeout: "2h" });
  await prepare(2, { timeout: "1s", check_url: `${checks}/orders/state` });
  await prepare(3, { timeout: "1s", check_url: `${checks}/orders/lost` });
  const committed = await prepare(4, {});
  await api("POST", `/v1/transactions/${committed.id}/commit`);
  const rolled = await prepare(5, {});
  await api("POST", `/v1/transactions/${rolled.id}/rollback`);
}

async function repairs() {
  await upload("invoicer", "noop", false);
  await upload("shipper", "noop", false);
  await api("POST", "/v1/groups/mail/pause", { why: "the mail provider asked us to wait until noon" });
  const { items } = await api("GET", "/v1/failures?group=validation");
  const filter = { group: "validation", state: "HANDLE_FAIL", fingerprint: items[0]?.fingerprint };
  const done = await api("POST", "/v1/redrives", { filter });
  await api("POST", `/v1/redrives/${done.id}/run`);
  const slow = await api("POST", "/v1/redrives", { filter: { group: "billing", state: "HANDLED" }, rate: 1 });
  await api("POST", `/v1/redrives/${slow.id}/run`);
  await wait(4_000);
  await api("POST", `/v1/redrives/${slow.id}/pause`);
  const dropped = await api("POST", "/v1/redrives", { filter: { group: "stock", state: "HANDLED" } });
  await api("DELETE", `/v1/redrives/${dropped.id}`);
  await api("POST", "/v1/redrives", { filter: { group: "stock", topic: "order", replay: true } });
  for (const state of ["billing", "stock"]) await api("POST", `/v1/groups/${state}/pause`, {});
  for (const state of ["billing", "stock"]) await api("POST", `/v1/groups/${state}/resume`, {});
}

process.on("SIGINT", () => host?.kill("SIGTERM"));
process.on("SIGTERM", () => host?.kill("SIGTERM"));
try {
  await start();
  for (const name of ["invoicer", "shipper", "mailer", "cache-warmer"]) await upload(name, "scripted");
  await upload("stock-reserver", "stock-reserver");
  await upload("order-validator", "order-validator");
  await api(
    "POST",
    "/v1/messages",
    Array.from({ length: 60 }, (_, number) => order(number, {})),
  );
  await wait(5_000);
  if (!values.calm) await stop();
  // The built-in Kafka forgets, the store does not: what lay between is lost.
  if (!values.calm) await start();
  await wait(3_000);
  await traffic();
  await halves();
  const rows = Array.from({ length: 4 }, (_, number) => `('order', 'OrderPaid', 'order-${1000 + number}', '{}')`);
  spawnSync("sqlite3", [shop, `INSERT INTO courier_outbox (topic, type, key, body) VALUES ${rows.join()};`]);
  await wait(5_000);
  await repairs();
  console.log(`the stage is set at ${url}; its tokens are ${TOKEN} (admin) and looks (viewer)`);
  if (values.stream) void stream();
  await once(host, "exit");
} finally {
  host?.kill("SIGKILL");
  sender.close();
  sender.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
}
