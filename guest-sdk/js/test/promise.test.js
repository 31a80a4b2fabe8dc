// The SDK's promises against Node's own: the same steps in the same order.

import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeMappings } from "../build/mappings.mjs";
import { usedIn } from "../build/uses.mjs";
import { Promise as Ours, dropJobs, queueMicrotask as queue, runJobs } from "../src/promise.js";

/** Runs a scenario with a kind of promises; what it notes shows the order of its steps. */
async function both(scenario, arrange = (notes) => notes) {
  const ours = [];
  scenario(Ours, (note) => ours.push(note), queue);
  runJobs();
  const theirs = [];
  scenario(Promise, (note) => theirs.push(note), queueMicrotask);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(arrange(ours), arrange(theirs));
  assert.ok(ours.length > 0);
}

test("steps happen in the order that the language gives them", () =>
  both((P, note, micro) => {
    note("begin");
    P.resolve(1).then((value) => note(`a${value}`)).then(() => note("c"));
    micro(() => note("micro"));
    new P((resolve) => resolve(P.resolve("inner"))).then(note);
    P.reject(new Error("no")).catch((error) => note(error.message)).finally(() => note("finally"));
    new P(() => { throw new Error("thrown"); }).then(null, (error) => note(error.message));
    P.resolve({ then: (resolve) => resolve("thenable") }).then(note);
    P.resolve({ get then() { throw new Error("getter"); } }).catch((error) => note(error.message));
    note("end");
  }));

test("promises are gathered as the language does", () =>
  both((P, note) => {
    const show = (name) => [(value) => note(`${name} ${JSON.stringify(value)}`), (error) => note(`${name} failed ${error.message} ${error.errors ?? ""}`)];
    const no = () => P.reject(new Error("no"));
    P.all([1, P.resolve(2), { then: (resolve) => resolve(3) }]).then(...show("all"));
    P.all([]).then(...show("none"));
    P.all([1, no()]).then(...show("all"));
    P.allSettled([1, P.reject(2)]).then(...show("settled"));
    P.race([new P(() => {}), P.resolve("first")]).then(...show("race"));
    P.any([no(), P.resolve("any")]).then(...show("any"));
    P.any([no(), no()]).then(null, (error) => note(`any ${error.constructor.name} ${error.errors.length}`));
    P.any([]).then(null, (error) => note(`any ${error.constructor.name} ${error.errors.length}`));
    // Which of several gatherings is first is nobody's business.
  }, (notes) => notes.sort()));

test("a promise settles once and never waits for itself", () =>
  both((P, note) => {
    new P((resolve, reject) => { resolve(1); reject(2); resolve(3); throw new Error("late"); }).then(note);
    const self = new P((resolve) => setTimeout(() => resolve, 0));
    assert.ok(self instanceof P);
    let settle;
    const loop = new P((resolve) => { settle = resolve; });
    settle(loop);
    loop.catch((error) => note(error.constructor.name));
    P.resolve(1).finally(() => { throw new Error("from finally"); }).catch((error) => note(error.message));
  }));

test("jobs of an attempt that was given up are forgotten", () => {
  let ran = false;
  Ours.resolve().then(() => { ran = true; });
  dropJobs();
  runJobs();
  assert.equal(ran, false);
  assert.throws(() => new Ours(), TypeError);
  assert.equal(Object.prototype.toString.call(Ours.resolve()), "[object Promise]");
});

test("what a source can use is found by its words", () => {
  assert.deepEqual(usedIn(["ctx.log(1); ctx.published"]), []);
  assert.deepEqual(usedIn(["const { state } = ctx;", "ctx.publish(await fetch(x))"]), ["publish", "state", "http"]);
  assert.deepEqual(usedIn(["ctx.secret('k')"]), ["config"]);
});

test("mappings are decoded", () => {
  assert.deepEqual(decodeMappings("AAAA,IACE;;EADA,C"), [[[0, 0, 0, 0], [4, 0, 1, 2]], [], [[2, 0, 0, 2]]]);
});
