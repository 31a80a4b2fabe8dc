import assert from "node:assert/strict";
import { test } from "node:test";

import { batchHandler, handler, RefusalError, reject, retry } from "../src/index.js";
import { context, deliver, deliverBatch } from "../src/testing.js";

const reserve = handler({ group: "stock", topics: ["order"], publishes: ["stock"] }, async (order, ctx) => {
  if (order.quantity === 0) throw ctx.reject("an order of nothing");
  if (order.quantity > 100) throw ctx.retry("too many at once", { after: "5s" });
  if (order.quantity < 0) throw ctx.unavailable("the warehouse is closed", { after: 1500 });
  if (order.quantity === 13) throw new TypeError("unlucky");
  ctx.publish({ topic: "stock", type: "StockReserved", key: order.id, body: { id: order.id } });
  ctx.state.set(`order/${order.id}`, order);
  ctx.log("reserved", order);
});

test("a success shows what the handler did", async () => {
  const outcome = await deliver(reserve, { body: { id: "o-1", quantity: 2 } });
  assert.equal(outcome.verdict, "success");
  assert.deepEqual(outcome.published[0], {
    topic: "stock", type: "StockReserved", key: "o-1", contentType: "application/json", body: { id: "o-1" }, headers: [],
  });
  assert.deepEqual(outcome.state, { "order/o-1": { id: "o-1", quantity: 2 } });
  assert.deepEqual(outcome.logs, [{ level: "info", text: 'reserved {id: "o-1", quantity: 2}' }]);
});

test("each failure says what should follow", async () => {
  const outcome = async (quantity) => {
    const { verdict, reason, afterMs } = await deliver(reserve, { body: { id: "o-1", quantity } });
    return { verdict, reason, afterMs };
  };
  assert.deepEqual(await outcome(0), { verdict: "reject", reason: "an order of nothing", afterMs: null });
  assert.deepEqual(await outcome(200), { verdict: "retry", reason: "too many at once", afterMs: 5000 });
  assert.deepEqual(await outcome(-1), { verdict: "unavailable", reason: "the warehouse is closed", afterMs: 1500 });
  const { verdict, reason } = await outcome(13);
  assert.equal(verdict, "error");
  assert.match(reason, /^TypeError: unlucky at handler\.test\.js:11:\d+$/);
});

test("a body that does not parse and a tombstone are rejected before the handler runs", async () => {
  const broken = await deliver(reserve, { body: new TextEncoder().encode("{") });
  assert.equal(broken.verdict, "reject");
  assert.match(broken.reason, /^the body is not JSON: /);
  assert.equal((await deliver(reserve, { body: null })).verdict, "reject");
  const gone = handler({ tombstones: true }, (event) => assert.equal(event, null));
  assert.equal((await deliver(gone, { body: null })).verdict, "success");
});

test("whole numbers of any size stay right", async () => {
  const echo = handler({ publishes: ["out"] }, (event, ctx) => {
    assert.equal(event.id, 9223372036854775807n);
    assert.equal(event.small, 42);
    ctx.publish({ topic: "out", body: { id: event.id, next: event.id + 1n, text: "9223372036854775807" } });
  });
  const body = new TextEncoder().encode('{"id": 9223372036854775807, "small": 42}');
  const outcome = await deliver(echo, { body });
  assert.equal(outcome.verdict, "success", outcome.reason);
  const { published } = await deliver(handler((_, ctx) => ctx.publish({ topic: "out", contentType: "text/plain", body: "as it is" })));
  assert.equal(new TextDecoder().decode(published[0].body), "as it is");
});

test("content types decide what the event is", async () => {
  const seen = [];
  const look = handler((event) => void seen.push(event));
  await deliver(look, { contentType: "text/plain", body: "tea" });
  await deliver(look, { contentType: "application/octet-stream", body: Uint8Array.of(0, 255) });
  await deliver(handler({ decode: "bytes" }, (event) => void seen.push(event)), { body: Uint8Array.of(1) });
  assert.deepEqual(seen, ["tea", Uint8Array.of(0, 255), Uint8Array.of(1)]);
});

test("what is not granted is refused with the host's words", async () => {
  const outcome = await deliver(reserve, { body: { id: "o-1", quantity: 1 }, deny: ["publish"] });
  assert.equal(outcome.verdict, "error");
  assert.match(outcome.reason, /^binding of group test does not grant publish at handler\.test\.js:12:/);
  const { ctx } = context({ deny: ["state"] });
  assert.throws(() => ctx.state.get("a"), (error) => error instanceof RefusalError && error.code === "denied");
});

test("what the host cannot do now pauses the binding, and what it refuses for good is an error", async () => {
  const refused = (code) => deliver(handler(() => { throw new RefusalError(code, "the store does not answer"); }), {});
  assert.equal((await refused("unavailable")).verdict, "unavailable");
  for (const code of ["denied", "limit", "invalid"]) assert.equal((await refused(code)).verdict, "error", code);
});

test("a wait may be a fraction, and one that makes no sense changes no verdict", async () => {
  assert.equal(retry("later", { after: "1.5s" }).afterMs, 1_500);
  assert.equal(retry("later", { after: 1e300 }).afterMs, 365 * 86_400_000);
  assert.throws(() => retry("later", { after: "soon" }), TypeError);
  const { ctx } = context({});
  const response = (wait) => ({ ok: false, status: 503, headers: { get: () => wait } });
  for (const [wait, afterMs] of [["7", 7_000], ["-1", null], ["soon", null], ["9".repeat(20), 365 * 86_400_000]]) {
    assert.throws(() => ctx.expectOk(response(wait)), (error) => error.verdict === "unavailable" && error.afterMs === afterMs, wait);
  }
});

test("message, attempt, settings and stores are at hand", () => {
  const { ctx, seen } = context({
    key: "k", headers: { a: "b", empty: null }, attempt: { number: 3 }, config: { region: "eu" }, secrets: { token: "t" }, state: { n: 1 },
  });
  assert.equal(ctx.message.keyText, "k");
  assert.equal(ctx.message.header("A"), "b");
  assert.equal(ctx.message.header("empty"), undefined);
  assert.equal(ctx.attempt.number, 3);
  assert.equal(ctx.config("region"), "eu");
  assert.equal(ctx.config("other"), undefined);
  assert.equal(ctx.secret("token"), "t");
  ctx.state.set("n", ctx.state.get("n") + 1);
  ctx.cache.set("raw", Uint8Array.of(255));
  assert.deepEqual(ctx.cache.getBytes("raw"), Uint8Array.of(255));
  ctx.cache.delete("raw");
  assert.deepEqual(seen().state, { n: 2 });
  assert.deepEqual(seen().cache, {});
});

test("a declaration that makes no sense is refused", () => {
  assert.throws(() => handler({ topic: "order" }, () => {}), /no option topic/);
  assert.throws(() => handler({ topics: "order" }, () => {}), /list of texts/);
  assert.throws(() => handler({ batch: true }, () => {}), /batch is no option/);
  assert.throws(() => handler({}), /wants a function/);
  assert.throws(() => context().ctx.retry("x", { after: "soon" }), /no duration/);
});

test("the log tells the errors behind an error", async () => {
  const { trace } = await import("../src/failure.js");
  const cause = new RangeError("no such row");
  const all = new AggregateError([new Error("one"), "two"], "several", { cause });
  const lines = trace(all).split("\n").filter((line) => !line.startsWith("  at "));
  assert.deepEqual(lines, [
    "AggregateError: several",
    "caused by RangeError: no such row",
    "with Error: one",
    "with two",
  ]);
  const circle = new Error("round");
  circle.cause = circle;
  assert.ok(trace(circle).split("caused by").length < 20);
});

const many = batchHandler({ topics: ["order"] }, async (items) =>
  items.map(({ event, ctx }) => {
    if (event.quantity < 0) throw new RangeError("it spoils the batch");
    if (event.quantity === 0) return reject("an order of nothing");
    if (event.quantity > 100) return retry("too many at once", { after: "5s" });
    ctx.publish({ topic: "stock", key: ctx.message.key, body: { of: items.length } });
  }),
);
const order = (quantity) => ({ body: { quantity }, key: `k-${quantity}` });

test("a batch handler answers for each message", async () => {
  const outcomes = await deliverBatch(many, [order(1), { body: new TextEncoder().encode("{") }, order(0), order(200), order(2)]);
  assert.deepEqual(outcomes.map(({ verdict }) => verdict), ["success", "reject", "reject", "retry", "success"]);
  assert.match(outcomes[1].reason, /is not JSON/);
  assert.deepEqual([outcomes[2].reason, outcomes[3].afterMs], ["an order of nothing", 5000]);
  assert.deepEqual(outcomes[4].published[0].body, { of: 4 });
});

test("what a batch handler throws is the outcome of one message and the end of a call with several", async () => {
  const [alone] = await deliverBatch(many, [order(-1)]);
  assert.match(alone.reason, /^RangeError: it spoils the batch at handler\.test\.js:\d+:\d+$/);
  await assert.rejects(deliverBatch(many, [order(1), order(-1)]), /it spoils the batch/);
  const short = batchHandler(() => [undefined]);
  await assert.rejects(deliverBatch(short, [order(1), order(2)]), /returned 1 outcomes for 2 items/);
  const [odd] = await deliverBatch(batchHandler(() => ["done"]), [order(1)]);
  assert.match(odd.reason, /outcome 0 is "done": undefined is a success, and an error a failure/);
});
