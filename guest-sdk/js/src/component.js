// The component's `handle`: a synchronous export round an asynchronous handler.

import "./web.js";
import { host } from "./host.js";
import { describe, isHandler, run } from "./index.js";
import { clear, wait } from "./loop.js";
import { toWire } from "./failure.js";

/** Runs the jobs of promises that are ready: the builder links it to the runtime. */
const { run: runJobs } = host["courier:javascript/jobs"];
/** What the runtime is answered when `runJobs` calls `handle` without a message. */
const NOTHING_TO_WAIT_FOR = { then() {} };

export function component(module) {
  const declared = module.default;
  if (!isHandler(declared)) {
    throw new TypeError("the module exports no handler: write `export default handler({ group, topics }, (event, ctx) => { .. })`");
  }
  // The builder reads this line while the script starts.
  host["courier:plugin/log"].log("debug", `courier:handler ${describe(declared)}`);
  return function handle(message, attempt) {
    if (message === undefined) return NOTHING_TO_WAIT_FOR;
    const failure = attend(declared, message, attempt);
    if (failure !== undefined) throw failure;
  };
}

/** Runs the handler to its end: jobs that are ready, then what it waits for. */
function attend(declared, message, attempt) {
  let failure = run(declared, host, message, attempt);
  let ended = !(failure instanceof Promise);
  try {
    if (!ended) {
      failure.then((result) => {
        ended = true;
        failure = result;
      });
    }
    // What the handler left behind runs in its own attempt too.
    runJobs();
    while (!ended) {
      if (!wait()) return { tag: "error", val: "the handler waits for a promise that nothing will settle" };
      runJobs();
    }
    return failure;
  } catch (error) {
    // A timer threw. Jobs that are left would run in the next attempt.
    runJobs();
    return toWire(error);
  } finally {
    clear();
  }
}
