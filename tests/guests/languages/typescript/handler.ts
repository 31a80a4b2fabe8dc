// The scenarios of tests/languages.rs in TypeScript: `do` names one.
import { handler, type Context } from "courier-sdk";
import { explode } from "./explode.js";

interface Scenario {
  do: string;
  topic?: string;
  number?: bigint | number;
}

/** What `fetch` throws: uncaught, its `failure` says what follows. */
interface Failed {
  failure?: { verdict: string; message: string };
}

const tick = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const deeper = (depth: number): number => deeper(depth + 1) + depth;

/** Counts the calls of this instance: a leak from one message to the next would show. */
let calls = 0;

export default handler<Scenario>({ topics: ["scenarios"], publishes: ["scenarios-out"] }, async (event, ctx: Context) => {
  calls += 1;
  switch (event.do) {
    case "success":
      return;
    case "error":
      throw new Error("it went wrong");
    case "retry":
      if (ctx.attempt.number === 1) throw ctx.retry("once more");
      return;
    case "retry-after":
      if (ctx.attempt.number === 1) throw ctx.retry("a little later", { after: "1200ms" });
      return;
    case "reject":
      throw ctx.reject("never");
    case "unavailable":
      if (ctx.attempt.number === 1) throw ctx.unavailable("it is down", { after: "1s" });
      return;
    case "exception":
      return explode(event.do as string);
    case "memory":
      for (const whole: unknown[] = []; ; ) whole.push(new Uint8Array(1 << 20));
    case "recursion":
      deeper(0);
      return;
    case "endless":
      for (;;);
    case "sleep":
      return tick(60_000);
    case "log":
      ctx.log.debug("quietly");
      console.log("printed", { a: [1, "b"] });
      ctx.log.warn("mind", 42n);
      return;
    case "publish": {
      const id = ctx.publish({ topic: event.topic!, type: "Published", key: "k", body: { from: ctx.message.id }, headers: { odd: Uint8Array.of(0, 255) } });
      ctx.log("published", id);
      return;
    }
    case "publish-and-fail":
      ctx.publish({ topic: event.topic!, type: "Published", body: { lost: true } });
      throw ctx.reject("nothing goes out");
    case "publish-elsewhere":
      ctx.publish({ topic: "not-granted", body: {} });
      return;
    case "state": {
      const count = (ctx.state.get<number>("count") ?? 0) + 1;
      ctx.state.set("count", count);
      ctx.log(`state ${count} ${ctx.state.get("count")}`);
      ctx.state.set("bytes", Uint8Array.of(0, 255));
      ctx.state.delete("nothing");
      return;
    }
    case "cache":
      ctx.cache.set("k", { cached: true });
      ctx.log(`cache ${JSON.stringify(ctx.cache.get("k"))} ${ctx.cache.get("other")}`);
      return;
    case "config":
      ctx.log(`region ${ctx.config("region")} ${ctx.config("other")}`);
      return;
    case "secret":
      ctx.log(`secret of ${ctx.secret("token")!.length} characters`);
      return;
    case "message": {
      const { message, attempt } = ctx;
      ctx.log(`${message.topic} ${message.type} key ${message.keyText} ${attempt.group.length > 0} ${message.header("kept")}`);
      return;
    }
    case "big":
      if (event.number !== 9223372036854775807n) throw new Error(`it came as ${event.number}`);
      ctx.publish({ topic: event.topic!, type: "Big", body: { number: event.number } });
      ctx.log(`number ${event.number}`);
      return;
    case "wait": {
      const begun = Date.now();
      await Promise.all([tick(60), tick(40), tick(50)]);
      const order: number[] = [];
      await Promise.all([tick(30).then(() => order.push(2)), tick(10).then(() => order.push(1))]);
      ctx.log(`waited ${Date.now() - begun >= 69} ${order}`);
      return;
    }
    case "never":
      return new Promise(() => {});
    case "web": {
      const url = new URL("/b?x=1", "https://h/a");
      const text = new TextDecoder().decode(new TextEncoder().encode("订单é"));
      const copy = structuredClone({ at: new Date(0) });
      ctx.log(`${url.href} ${text} ${copy.at.toISOString()} ${atob(btoa("tea"))} ${/^[0-9a-f-]{36}$/.test(crypto.randomUUID())}`);
      return;
    }
    case "random":
      ctx.log(`random ${Math.random()} ${crypto.getRandomValues(new Uint8Array(4)).join(".")}`);
      return;
    case "calls":
      ctx.log(`call ${calls}`);
      return;
    case "fetch": {
      const urls = ["/a", "/b"].map((path) => `${event.topic}${path}`);
      const answers = await Promise.all(urls.map(async (url) => (await fetch(url, { method: "POST", body: url.slice(-1) })).json()));
      ctx.log(`fetched ${JSON.stringify(answers)}`);
      return;
    }
    case "fetch-failures":
      for (const url of event.topic?.split(",") ?? []) {
        try {
          await fetch(url);
        } catch (error) {
          ctx.log(`${(error as Failed).failure?.verdict ?? "error"}: ${(error as Failed).failure?.message ?? error}`);
        }
      }
      return;
    default:
      throw ctx.reject(`no scenario ${event.do}`);
  }
});
