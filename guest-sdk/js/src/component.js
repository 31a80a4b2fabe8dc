// The component's export: a synchronous function round an asynchronous handler.

import "./web.js";
import { Context, importsOf } from "./context.js";
import { host } from "./host.js";
import { describe, isHandler, run, runBatch } from "./index.js";
import { clear, wait } from "./loop.js";
import { toWire } from "./failure.js";

/** Runs the jobs of promises that are ready: the builder links it to the runtime. */
const { run: runJobs } = host["courier:javascript/jobs"];
/** What the runtime is answered when `runJobs` calls the export without a message. */
const NOTHING_TO_WAIT_FOR = { then() {} };

/** The function that the component exports, as `handle` or `handle-batch`. */
export function component(module) {
  const declared = module.default;
  if (!isHandler(declared)) {
    throw new TypeError("the module exports no handler: write `export default handler({ group, topics }, (event, ctx) => { .. })`");
  }
  // The builder reads this line while the script starts.
  host["courier:plugin/log"].log("debug", `courier:handler ${describe(declared)}`);
  return declared.world === "batch-handler" ? batch(declared) : single(declared);
}

function single(declared) {
  return function handle(message, attempt) {
    if (message === undefined) return NOTHING_TO_WAIT_FOR;
    const failure = attend(() => run(declared, host, message, attempt), toWire);
    if (failure !== undefined) throw failure;
  };
}

function batch(declared) {
  return function handleBatch(items) {
    if (items === undefined) return NOTHING_TO_WAIT_FOR;
    const contexts = items.map(({ message, attempt }, item) => new Context(importsOf(host, item), message, attempt));
    const outcomes = attend(() => runBatch(declared, contexts), (error) => {
      // The call fails as a whole: the host then runs each message alone.
      throw error;
    });
    return outcomes.map((failure) => (failure === undefined ? { tag: "ok" } : { tag: "err", val: failure }));
  };
}

/**
 * Runs a handler to its end: jobs that are ready, then what it waits for. `failed` makes
 * an outcome of what goes wrong outside of it.
 */
function attend(begin, failed) {
  let ended;
  try {
    let outcome = begin();
    ended = !(outcome instanceof Promise);
    let problem;
    if (!ended) {
      outcome.then((result) => {
        ended = true;
        outcome = result;
      }, (error) => {
        ended = true;
        problem = { error };
      });
    }
    // What the handler left behind runs in its own attempt too.
    runJobs();
    while (!ended) {
      if (!wait()) throw new Error("the handler waits for a promise that nothing will settle");
      runJobs();
    }
    if (problem) throw problem.error;
    return outcome;
  } catch (error) {
    // Jobs that are left would run in the next attempt.
    runJobs();
    return failed(error);
  } finally {
    clear();
  }
}
