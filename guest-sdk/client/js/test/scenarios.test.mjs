// The scenarios that all clients share, against the host that
// COURIER_TEST_HOSTS describes: `cargo xtask test --only clients` starts it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CourierError, GaveUpError, Publisher, RefusedError } from "courier-client";

import { databases } from "./databases.mjs";
import { lossy, silent } from "./doors.mjs";

const PATIENCE_MS = 30_000;
const POLL_MS = 50;

const file = process.env.COURIER_TEST_HOSTS;
if (!file) throw new Error("COURIER_TEST_HOSTS names no file: run `cargo xtask test --only clients`, which starts the hosts");
const hosts = JSON.parse(readFileSync(file, "utf8"));
const { scenarios } = JSON.parse(readFileSync(new URL("../../scenarios.json", import.meta.url), "utf8"));

/** Whether a value has all that is expected of it. */
function matches(expected, value) {
  if (Array.isArray(expected)) {
    return Array.isArray(value) && value.length === expected.length && expected.every((one, at) => matches(one, value[at]));
  }
  if (expected !== null && typeof expected === "object") {
    return value !== null && typeof value === "object" && Object.entries(expected).every(([name, one]) => matches(one, value[name]));
  }
  return expected === value;
}

/** The names of the API, which the table is written in. */
function snake(view) {
  const flat = (object) =>
    Object.fromEntries(
      Object.entries(object).map(([name, value]) => [name.replace(/64$/, "_64").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace("base_64", "base64"), value]),
    );
  const deliveries = view.deliveries.map((one) => ({ ...flat(one), attempts: one.attempts.map(flat) }));
  return { ...flat(view), deliveries };
}

function shown(error) {
  if (!(error instanceof CourierError)) throw error;
  const kind = { RefusedError: "refused", GaveUpError: "gave_up", InvalidError: "invalid" }[error.name];
  return { kind, status: error.status, problem: error.problem, id: error.draft?.id ?? error.id, can_retry: error.canRetry };
}

/** The message that the table describes. */
function message(wanted) {
  const { key_base64, body_base64, body_letters, body_text_bytes, content_type, delay_ms, headers, ...plain } = wanted;
  const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
  const header = (value) => (Array.isArray(value) ? value.map(header) : value?.base64 ? bytes(value.base64) : value);
  return {
    ...plain,
    ...(key_base64 && { key: bytes(key_base64) }),
    ...(body_base64 && { body: bytes(body_base64) }),
    ...(body_letters && { body: "x".repeat(body_letters) }),
    ...(body_text_bytes && { body: new TextEncoder().encode(body_text_bytes) }),
    ...(content_type && { contentType: content_type }),
    ...(delay_ms && { delayMs: delay_ms }),
    ...(headers && { headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, header(value)])) }),
  };
}

async function run(scenario, database) {
  const names = new Map();
  const named = (value) => {
    if (typeof value === "string") {
      return value.replace(/\$(\w+)/g, (_, name) => {
        if (!names.has(name)) names.set(name, `${name}-js-${randomUUID()}`);
        return names.get(name);
      });
    }
    if (Array.isArray(value)) return value.map(named);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, named(one)]));
  };
  const doors = { lossy: await lossy(hosts.main.url), silent: await silent(hosts.main.url) };
  const urls = { main: hosts.main.url, away: hosts.away.url, lossy: doors.lossy.url, silent: doors.silent.url, closed: "http://127.0.0.1:1" };
  const publisher = (by = {}) =>
    new Publisher(urls[by.host ?? "main"], {
      token: hosts.tokens[by.token ?? "shop"],
      ...(by.source && { source: by.source }),
      ...(by.traceparent && { traceparent: by.traceparent }),
      ...(by.timeout_ms && { timeoutMs: by.timeout_ms }),
      ...(by.try_timeout_ms && { tryTimeoutMs: by.try_timeout_ms }),
    });
  let draft;
  const act = {
    publish: (step) => {
      const wanted = message(step.message);
      const by = publisher(step.by);
      if (step.after_ms) return by.publishAfter(wanted, step.after_ms);
      if (step.at_in_ms) return by.publishAt(wanted, new Date(Date.now() + step.at_in_ms));
      return step.broadcast ? by.publishBroadcast(wanted) : by.publish(wanted);
    },
    publish_again: (step) => publisher(step.by).publish(draft),
    publish_all: async (step) => {
      const answers = await publisher(step.by).publishAll(step.messages.map(message));
      return answers.map((answer) => (answer instanceof Error ? { error: shown(answer) } : answer));
    },
    ask: async (step) => snake(await publisher(step.by).ask(step.id, step.topic ? { topic: step.topic } : {})),
    cancel: async (step) => snake(await publisher(step.by).cancel(step.id, step.topic ? { topic: step.topic } : {})),
    transaction: (step) => database(step.end, publisher(step.by), step.messages.map(message)),
    requests: (step) => doors[step.host].requests(),
  };
  try {
    for (const written of scenario.steps) {
      const step = named(written);
      const deadline = Date.now() + PATIENCE_MS;
      for (;;) {
        let answer, error;
        try {
          answer = await act[step.do](step);
        } catch (thrown) {
          error = shown(thrown);
          if (thrown instanceof GaveUpError) draft = thrown.draft ?? draft;
        }
        // What was published becomes visible, and handled, a moment later.
        const early = step.do === "ask" && !step.error && (error ? error.status === 404 : !matches(step.expect, answer));
        if (early && Date.now() < deadline) {
          await new Promise((resolve) => setTimeout(resolve, POLL_MS));
          continue;
        }
        const said = JSON.stringify({ step, answer, error }, null, 1);
        if (step.error) assert.ok(error && matches(step.error, error), said);
        else assert.ok(!error && matches(step.expect ?? {}, answer ?? {}), said);
        if (step.save_id) names.set(step.save_id, answer?.id ?? error.id);
        if (step.not_early) {
          assert.ok(answer.deliver_at && answer.deliveries[0].attempts[0].started_at >= answer.deliver_at, said);
        }
        break;
      }
    }
  } finally {
    doors.lossy.close();
    doors.silent.close();
  }
}

for (const scenario of scenarios) {
  if (!scenario.databases) {
    test(scenario.name, () => run(scenario));
    continue;
  }
  for (const [name, open] of Object.entries(databases)) {
    test(`${scenario.name} (${name})`, async () => {
      const database = await open(hosts);
      try {
        await run(scenario, database.transaction);
      } finally {
        await database.close();
      }
    });
  }
}

test("a refusal is an error with the host's problem document", async () => {
  const publisher = new Publisher(hosts.main.url, { token: hosts.tokens.wrong });
  await assert.rejects(publisher.ask("x"), (error) => {
    return error instanceof RefusedError && error.problem.detail.length > 0 && error.message.includes("401");
  });
});

test("the example of the README runs", () => {
  const here = new URL("..", import.meta.url);
  const [, example] = /```js\n(.*?)```/s.exec(readFileSync(new URL("README.md", here), "utf8"));
  const env = { ...process.env, COURIER_URL: hosts.main.url, COURIER_TOKEN: hosts.tokens.shop };
  const printed = execFileSync(process.execPath, ["--input-type=module"], { cwd: here, env, input: example, encoding: "utf8" });
  assert.match(printed, /cancelled/);
});
