// What needs no host: how messages are written, and how a host's answers and
// silences are taken.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { test } from "node:test";

import { Draft, event, GaveUpError, InvalidError, outboxInsert, Publisher, RefusedError } from "courier-client";

const order = { topic: "order", type: "OrderCreated", body: { order_id: "o-1" } };

/** Answers each request with the next of `answers`, the last one for ever. */
async function host(t, ...answers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const [status, body, headers] = answers[Math.min(asked.length, answers.length - 1)];
    asked.push({ url: request.url, headers: request.headers, body: Buffer.concat(parts).toString() });
    if (status === 0) return request.socket.destroy();
    response.writeHead(status, headers).end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.closeAllConnections() ?? server.close());
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

test("a draft is written as the host reads it", () => {
  const message = { ...order, id: "o-1", key: new Uint8Array([255]), kind: "broadcast", delayMs: 1.2, contentType: "a/b" };
  const draft = new Draft({ ...message, headers: { a: ["1", new Uint8Array([0, 255])], b: null }, traceparent: "00-a-b-01" }, "shop");
  assert.deepEqual(JSON.parse(draft.json), {
    id: "o-1", topic: "order", type: "OrderCreated", key_base64: "/w==", source: "shop", kind: "broadcast", delay: "2ms",
    headers: { a: ["1", { base64: "AP8=" }], b: null, "content-type": "a/b", traceparent: "00-a-b-01" },
    body: { order_id: "o-1" },
  });
  const at = new Draft({ ...order, key: "k", body: new Uint8Array([1]), deliverAt: new Date(1500) });
  const { id, ...rest } = JSON.parse(at.json);
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(rest, { topic: "order", type: "OrderCreated", key: "k", deliver_at: "1970-01-01T00:00:01.500Z", body_base64: "AQ==" });
});

test("a draft keeps the body that it was made with", () => {
  const body = { n: 1 };
  const draft = new Draft({ ...order, body });
  body.n = 2;
  assert.equal(JSON.parse(draft.json).body.n, 1);
  assert.equal(outboxInsert("sqlite", draft).values[5], '{"n":1}');
});

test("an event type is declared once", () => {
  const created = event({ topic: "order", type: "OrderCreated", key: (body) => body.order_id });
  assert.deepEqual(created({ order_id: "o-1" }, { id: "x" }), { ...order, key: "o-1", id: "x" });
});

test("what cannot be written is told before anything is sent", async () => {
  const publisher = new Publisher("http://127.0.0.1:1");
  const loop = {};
  loop.loop = loop;
  for (const body of [undefined, 1n, loop, () => 1]) await assert.rejects(publisher.publish({ ...order, body }), InvalidError);
  await assert.rejects(publisher.publishAfter(order, -1), InvalidError);
  await assert.rejects(publisher.publishAfter(order, Infinity), InvalidError);
  await assert.rejects(publisher.publishAt(order, new Date("x")), InvalidError);
  await assert.rejects(publisher.publishAt({ ...order, delayMs: 1 }, new Date(0)), InvalidError);
  await assert.rejects(publisher.publishAll([order, { ...order, body: 1n }]), InvalidError);
  for (const url of ["", "localhost:7070", "ftp://a", "mailto:a@b"]) assert.throws(() => new Publisher(url), InvalidError, url);
});

test("a message is tried again under its id until it is taken", async (t) => {
  const { url, asked } = await host(t, [0], [503, { title: "not available", status: 503 }], [202, "<html>"], [202, { id: "m", state: "SEND_FAIL", retrying: true }]);
  const publisher = new Publisher(`${url}/courier/`, { token: "secret", traceparent: () => "00-a-b-01" });
  assert.deepEqual(await publisher.publish(order), { id: "m", state: "SEND_FAIL", retrying: true });
  assert.equal(asked.length, 4);
  assert.equal(new Set(asked.map((one) => one.body)).size, 1);
  assert.equal(asked[0].url, "/courier/v1/messages");
  assert.equal(asked[0].headers.authorization, "Bearer secret");
  assert.equal(asked[0].headers.traceparent, "00-a-b-01");
  assert.equal(JSON.parse(asked[0].body).headers.traceparent, "00-a-b-01");
});

test("what would be refused each time is not tried again", async (t) => {
  const problem = { type: "urn:courier:problem:id-is-taken", title: "id is taken", status: 409, detail: "other content", id: "m" };
  const { url, asked } = await host(t, [409, problem], [302, "", { location: "http://127.0.0.1:1/" }]);
  await assert.rejects(new Publisher(url).publish(order), (error) => {
    return error instanceof RefusedError && error.id === "m" && error.problem.type === problem.type && error.message.includes("other content");
  });
  await assert.rejects(new Publisher(url, { token: "secret" }).publish(order), (error) => error.status === 302);
  assert.equal(asked.length, 2);
});

test("a wait that the host asks for is kept, within the time there is", async (t) => {
  const { url, asked } = await host(t, [429, "", { "retry-after": "60" }]);
  await assert.rejects(new Publisher(url, { timeoutMs: 5_000 }).publish(order), (error) => error instanceof GaveUpError && error.tries === 1);
  assert.equal(asked.length, 1);
});

test("a publisher that gave up hands the message back", async (t) => {
  const { url, asked } = await host(t, [503, ""]);
  const publisher = new Publisher(url, { timeoutMs: 300 });
  const error = await publisher.publish(order).catch((error) => error);
  assert.ok(error instanceof GaveUpError && error.canRetry && error.tries > 1, String(error));
  await publisher.publish(error.draft).catch(() => undefined);
  assert.equal(new Set(asked.map((one) => one.body)).size, 1);
});

test("a call ends when its signal does", async (t) => {
  const { url } = await host(t, [503, ""]);
  const ended = new AbortController();
  const asked = new Publisher(url).publish(order, { signal: ended.signal });
  ended.abort("enough");
  await assert.rejects(asked, (error) => error instanceof GaveUpError && error.message.includes("enough"));
});

test("of many only those without an answer are sent again", async (t) => {
  const first = [
    { id: "a", state: "COMMITTED" },
    { id: "b", state: "SEND_FAIL", problem: { title: "not available", status: 503 } },
    { id: "c", state: "SEND_FAIL", problem: { title: "invalid message", status: 400 } },
  ];
  const { url, asked } = await host(t, [202, { items: first }], [400, { title: "nothing accepted", items: [{ id: "b", state: "COMMITTED" }] }]);
  const answers = await new Publisher(url).publishAll([order, order, order]);
  assert.deepEqual(answers.map((one) => one.status ?? one.state), ["COMMITTED", "COMMITTED", 400]);
  assert.deepEqual(asked.map((one) => JSON.parse(one.body).length), [3, 1]);
});

test("many messages go in several requests, in their order", async (t) => {
  const { url, asked } = await host(t, [503, "", { "retry-after": "60" }]);
  const publisher = new Publisher(url, { timeoutMs: 10_000 });
  const answers = await publisher.publishAll(Array.from({ length: 501 }, (_, at) => ({ ...order, id: `${at}` })));
  assert.equal(answers.length, 501);
  assert.ok(answers.every((one, at) => one.draft.id === `${at}`));
  assert.deepEqual(asked.map((one) => JSON.parse(one.body).length), [500, 1]);
});

test("an outbox row has the columns of the published table", () => {
  const draft = new Draft({ ...order, id: "o-1", key: "k", headers: { a: "1" } }, "shop");
  assert.deepEqual(outboxInsert("postgres", draft, { table: "shop.outbox" }), {
    text: 'INSERT INTO "shop"."outbox" (id, source, topic, type, key, kind, body, headers) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb)',
    values: ["o-1", "shop", "order", "OrderCreated", "k", "event", '{"order_id":"o-1"}', '{"a":"1"}'],
  });
  const later = outboxInsert("sqlite", new Draft({ ...order, delayMs: 1500 }));
  assert.ok(later.text.includes("'now', ?)") && later.values.at(-1) === "+1.501 seconds", later.text);
  assert.ok(outboxInsert("postgres", new Draft({ ...order, delayMs: 1500 })).text.includes("clock_timestamp() + $8::bigint"));
  assert.throws(() => outboxInsert("postgres", draft, { table: "a; drop" }), InvalidError);
  assert.throws(() => outboxInsert("postgres", new Draft({ ...order, body: new Uint8Array([255]) })), InvalidError);
});

test("a row that would be committed by itself is refused", () => {
  const written = [];
  const database = (state) => ({ ...state, prepare: () => ({ run: (...values) => written.push(values) }) });
  for (const state of [{ inTransaction: false }, { isTransaction: false }]) {
    assert.throws(() => new Publisher("http://a").publishIn(database(state), order), /no transaction has begun/);
  }
  assert.equal(written.length, 0);
  for (const state of [{ inTransaction: true }, { isTransaction: true }, {}]) new Publisher("http://a").publishIn(database(state), order);
  assert.equal(written.length, 3);
});

test("a pool is no transaction", () => {
  const pool = { query: async () => {}, totalCount: 1, idleCount: 1 };
  assert.throws(() => new Publisher("http://a").publishIn(pool, order), /pool/);
  assert.throws(() => new Publisher("http://a").publishIn({}, order), /outboxInsert/);
});

test("it is there for require as well", () => {
  const required = createRequire(import.meta.url)("courier-client");
  assert.deepEqual(new required.Draft(order).message.topic, "order");
});
