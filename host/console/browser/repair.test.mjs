// The night's work: find what failed, read why, mend it, run it again.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, fix, group, open, plugin, signIn, tokens, topic, until, url } from "./support.mjs";

let page;
let close;

before(async () => {
  ({ page, close } = await open());
  await signIn(page, tokens.admin);
});
after(() => close());

async function delivery(key) {
  const { items } = await api("GET", `/v1/deliveries?group=${group}&key=${key}`);
  return items[0];
}

test("a failed message is found by its key and says why", async () => {
  await page.keyboard.press("/");
  await page.keyboard.type("broken-0");
  await page.keyboard.press("Enter");
  const row = page.getByRole("row").filter({ hasText: "handle failed" }).first();
  await row.waitFor();
  await row.focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/messages\//);
  const reason = page.getByTestId("reason").first();
  await reason.waitFor();
  assert.equal(await reason.textContent(), "scripted: reject");
});

test("another version is uploaded and made the active one", async () => {
  await page.goto(`${url}/plugins/${plugin}`);
  await page.locator('input[type="file"]').setInputFiles(fix);
  await page.getByText("is stored. It is not active yet.").waitFor();
  await page.getByRole("button", { name: "Activate" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("Now active").waitFor();
  await dialog.getByRole("button", { name: "Activate" }).click();
  await dialog.waitFor({ state: "detached" });
  const known = await api("GET", `/v1/plugins/${plugin}`);
  assert.equal(known.active, known.versions[0].version, "the newest version is active");
});

test("the failures alike run again, by a plan that is shown first, and are handled", async () => {
  await page.goto(`${url}/deliveries?group=${group}&view=failures`);
  const cluster = page.getByRole("listitem").filter({ hasText: "scripted: reject" });
  await cluster.getByText(/\d+ like this/).waitFor();
  await cluster.getByRole("button", { name: /^Run \d+ again/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/12 deliveries match/).waitFor();
  await dialog.getByRole("button", { name: "Run 12 again at 500/s" }).click();
  await page.waitForURL(/\/redrives\//);
  await page.getByText("done", { exact: true }).first().waitFor();
  const again = await until("the failed delivery is HANDLED", async () => {
    const seen = await delivery("broken-0");
    return seen?.state === "HANDLED" ? seen : null;
  });
  await page.goto(`${url}/messages/${encodeURIComponent(again.message_id)}`);
  const chapter = page.locator(`[data-group="${group}"]`);
  await chapter.locator('[data-state="HANDLED"]').waitFor();
  assert.match((await chapter.textContent()) ?? "", /attempt 1.*scripted: reject.*attempt 2.*success/s);
});

test("a plugin is rolled back to the version before", async () => {
  const [newest, oldest] = (await api("GET", `/v1/plugins/${plugin}`)).versions;
  await page.goto(`${url}/plugins/${plugin}`);
  await page.getByRole("button", { name: "Roll back to this" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Activate" }).click();
  await dialog.waitFor({ state: "detached" });
  await until("the older version is active", async () => {
    const { active } = await api("GET", `/v1/plugins/${plugin}`);
    return active === oldest.version && active !== newest.version;
  });
});

test("a range of records is replayed, by a plan that is shown first", async () => {
  const [one] = (await api("GET", `/v1/deliveries?group=${group}&key=fine-0`)).items;
  const attempts = one.attempts.at(-1).number;
  await page.goto(`${url}/groups/${group}`);
  await page.getByRole("button", { name: "Replay a range…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Partition").selectOption(String(one.partition));
  await dialog.getByLabel("From offset").fill(String(one.offset));
  await dialog.getByLabel("Before offset").fill(String(one.offset));
  // A range that holds nothing cannot be planned.
  assert.equal(await dialog.getByRole("button", { name: "Show the plan" }).getAttribute("aria-disabled"), "true");
  await dialog.getByLabel("Before offset").fill(String(one.offset + 1));
  await dialog.getByRole("button", { name: "Show the plan" }).click();
  await dialog.getByText("1 delivery matches").waitFor();
  await dialog.getByText("from offset").waitFor();
  await dialog.getByRole("button", { name: "Run 1 again at 500/s" }).click();
  await page.waitForURL(/\/redrives\//);
  await page.getByText("done", { exact: true }).first().waitFor();
  const [again] = (await api("GET", `/v1/deliveries?group=${group}&key=fine-0`)).items;
  assert.equal(again.attempts.at(-1).number, attempts + 1, "its attempts went on");
});

test("what the host refuses to take as a plugin is said in the host's words", async () => {
  await page.goto(`${url}/plugins/${plugin}`);
  await page.locator('input[type="file"]').setInputFiles({
    name: "garbage.wasm",
    mimeType: "application/wasm",
    buffer: Buffer.from("this is no wasm at all"),
  });
  const refused = page.getByRole("alert").filter({ hasText: "The host refused it" });
  await refused.waitFor();
  assert.match((await refused.textContent()) ?? "", /component/);
});

test("a delayed message is cancelled before it is due", async () => {
  const { id } = await api("POST", "/v1/messages", {
    topic,
    type: "Later",
    key: "later-1",
    delay: "2h",
    body: { do: ["ok"] },
  });
  await page.goto(`${url}/delayed?key=later-1`);
  await page.getByRole("button", { name: "Cancel" }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog
    .getByRole("button", { name: /Cancel/ })
    .last()
    .click();
  await dialog.waitFor({ state: "detached" });
  await until("the message is cancelled", async () => {
    const { state, reason } = await api("GET", `/v1/messages/${id}`);
    return state === "SEND_FAIL" && reason === "cancelled";
  });
});

test("a group is paused and resumed", async () => {
  await page.goto(`${url}/groups/${group}`);
  await page.getByRole("button", { name: "Pause" }).click();
  let dialog = page.getByRole("dialog");
  await dialog.getByLabel("Why (for colleagues)").fill("a test looks");
  await dialog.getByRole("button", { name: "Pause" }).click();
  await page.getByText("a test looks").first().waitFor();
  assert.equal((await api("GET", `/v1/groups/${group}`)).paused, true);
  await page.getByRole("button", { name: "Resume" }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByText("It is paused: a test looks").waitFor();
  await dialog.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Pause" }).waitFor();
  assert.equal((await api("GET", `/v1/groups/${group}`)).paused, false);
  // The result leads to its row in the audit log.
  await page.getByRole("link", { name: "See it in the audit log" }).click();
  await page.waitForURL(/\/audit\?/);
  await page.getByRole("row").filter({ hasText: "resume" }).filter({ hasText: group }).waitFor();
});

test("every page opens, and nothing on it is broken", async () => {
  const pages = ["/", "/sent", "/deliveries", "/delayed", "/half-messages", "/dead-letters", "/redrives"];
  for (const path of [...pages, "/groups", "/plugins", "/nodes", "/audit"]) {
    await page.goto(url + path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.waitForLoadState("load");
    await page.waitForTimeout(300);
    assert.equal(await page.getByRole("alert").count(), 0, `${path}: ${await page.locator("main").textContent()}`);
  }
});
