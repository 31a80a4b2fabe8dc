// The component's `handle`: a synchronous export round an asynchronous handler.

import "./web.js";
import { host } from "./host.js";
import { isHandler, run } from "./index.js";
import { clear, wait } from "./loop.js";
import { dropJobs, runJobs } from "./promise.js";
import { toWire } from "./failure.js";

export function component(module) {
  const declared = module.default;
  if (!isHandler(declared)) {
    throw new TypeError("the module exports no handler: write `export default handler({ group, topics }, (event, ctx) => { .. })`");
  }
  return function handle(message, attempt) {
    const failure = attend(declared, message, attempt);
    if (failure !== undefined) throw failure;
  };
}

/** Runs the handler to its end: jobs that are ready, then what it waits for. */
function attend(declared, message, attempt) {
  let ended = false;
  let failure;
  try {
    run(declared, host, message, attempt).then((result) => {
      ended = true;
      failure = result;
    });
    runJobs();
    while (!ended) {
      if (!wait()) return { tag: "error", val: "the handler waits for a promise that nothing will settle" };
      runJobs();
    }
    return failure;
  } catch (error) {
    return toWire(error);
  } finally {
    dropJobs();
    clear();
  }
}
