// A browser on the real host, as people use it: by addresses, names and keys.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

/** A variable that the journey which starts these tests sets. */
function given(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: these tests are started by tests/console.rs, which starts a host for them`);
  return value;
}

export const url = given("COURIER_URL");
export const tokens = { admin: given("COURIER_ADMIN"), viewer: given("COURIER_VIEWER") };
export const group = given("COURIER_GROUP");
export const topic = given("COURIER_TOPIC");
export const plugin = given("COURIER_PLUGIN");
/** A component that handles everything: the fix. */
export const fix = given("COURIER_FIX");
export const hostile = Number(given("COURIER_HOSTILE"));

/** The API, as an administrator's program asks it. */
export async function api(method, path, body) {
  const answer = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${tokens.admin}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path} was answered ${answer.status}: ${text}`);
  return text ? JSON.parse(text) : null;
}

/** Waits until `look` gives something, and says what it saw last when it never does. */
export async function until(what, look, limitMs = 30_000) {
  const end = Date.now() + limitMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(Date.now() < end, `${what}: not within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/**
 * A browser of its own with nothing remembered; `close` leaves nothing behind,
 * and fails when a page did what none may do.
 */
export async function open(options = {}) {
  const profile = mkdtempSync(join(tmpdir(), "courier-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    viewport: { width: 1280, height: 860 },
    locale: "en-GB",
    ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(20_000);
  // Whatever a page may never do, whichever test it happens in.
  const broken = [];
  page.on("dialog", (dialog) => {
    broken.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("pageerror", (error) => broken.push(`a fault: ${error.message}`));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "blob:" && origin !== new URL(url).origin) broken.push(`asked for ${request.url()}`);
  });
  page.on("popup", (other) => broken.push(`opened ${other.url()}`));
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) broken.push(message.text());
  });
  const close = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    assert.deepEqual(broken, []);
  };
  return { page, close };
}

/** Signs in through the page. */
export async function signIn(page, token) {
  await page.goto(url);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation").waitFor();
}

/** Does something in a browser of its own, which is closed whatever comes of it. */
export async function inBrowser(options, act) {
  const { page, close } = await open(options);
  let done = false;
  try {
    await act(page);
    done = true;
  } finally {
    // What the act itself found counts for more than what closing finds.
    if (done) await close();
    else await close().catch(() => {});
  }
}
