// How an attempt fails, and how that is told to the host.

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A longer wait is as good as none that ends, and the contract's number cannot hold any. */
const MAX_WAIT_MS = 365 * UNITS.d;

/** Milliseconds of `"5s"` or of a number, which is milliseconds already. */
export function milliseconds(duration) {
  if (duration === undefined || duration === null) return null;
  if (typeof duration === "number" && duration >= 0 && Number.isFinite(duration)) return Math.min(Math.round(duration), MAX_WAIT_MS);
  const parts = typeof duration === "string" ? /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(duration) : null;
  if (!parts) throw new TypeError(`${String(duration)} is no duration: write "500ms", "5s", "2m", "1h" or milliseconds`);
  return Math.min(Math.round(Number(parts[1]) * UNITS[parts[2]]), MAX_WAIT_MS);
}

/** What a handler throws to say what should follow. */
export class Failure extends Error {
  constructor(verdict, reason, options = {}) {
    super(String(reason), options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "Failure";
    this.verdict = verdict;
    this.afterMs = milliseconds(options.after);
  }
}

export const retry = (reason, options) => new Failure("retry", reason, options);
export const reject = (reason, options) => new Failure("reject", reason, options);
export const unavailable = (reason, options) => new Failure("unavailable", reason, options);

/** A call that the host refused; `code` is denied, limit, invalid or unavailable. */
export class RefusalError extends Error {
  constructor(code, text) {
    super(text);
    this.name = "RefusalError";
    this.code = code;
  }
}

/** The failure that an uncaught error stands for: what its maker said, or else the error itself. */
export function meant(error) {
  if (error?.failure instanceof Failure) return error.failure;
  // The host could not do it now, which says nothing about the message.
  if (error instanceof RefusalError && error.code === "unavailable") return new Failure("unavailable", error.message, { cause: error });
  return error;
}

/** Calls an import; what it refuses becomes a RefusalError. */
export function call(imported, ...values) {
  try {
    return imported(...values);
  } catch (error) {
    const refusal = error?.payload;
    if (refusal && typeof refusal.tag === "string") throw new RefusalError(refusal.tag, String(refusal.val));
    throw error;
  }
}

/** Where the SDK's own files lie: in a component they are no files and have names of their own. */
const HOME = import.meta.url?.replace(/[^/]*$/, "") ?? "courier:";
const FRAME = /\(?([^\s()]+):(\d+):(\d+)\)?\s*$/;

/** `handler.ts:12:7`: where in the handler's own files an error came about. */
export function place(error) {
  for (const line of String(error?.stack ?? "").split("\n")) {
    const frame = FRAME.exec(line);
    // `<input>` is the text that JSON.parse was given.
    if (!frame || ["courier:", "node:", "<", HOME].some((own) => frame[1].startsWith(own))) continue;
    return `${frame[1].replace(/^file:\/\/.*\//, "")}:${frame[2]}:${frame[3]}`;
  }
  return null;
}

/** Errors behind an error that the log tells: a chain of causes has an end. */
const MAX_CAUSES = 8;

/** An error with its stack in terms of the handler's own files, and those behind it, for the log. */
export function trace(error) {
  const lines = [];
  const queue = [[error, ""]];
  for (let told = 0; queue.length > 0 && told <= MAX_CAUSES; told += 1) {
    const [next, words] = queue.shift();
    lines.push(`${words}${next instanceof Error ? traceOf(next) : String(next)}`);
    if (next?.cause !== undefined) queue.push([next.cause, "caused by "]);
    if (Array.isArray(next?.errors)) queue.push(...next.errors.map((one) => [one, "with "]));
  }
  return lines.join("\n");
}

function traceOf(error) {
  const frames = String(error.stack ?? "").split("\n").filter((line) => FRAME.test(line));
  const places = frames.map((line) => place({ stack: line })).filter((at) => at !== null);
  return [`${error.name}: ${error.message}`, ...places.map((at) => `  at ${at}`)].join("\n");
}

/** The reason of an error that the handler did not mean as a verdict. */
export function reasonOf(error) {
  if (!(error instanceof Error)) {
    try {
      return typeof error === "string" ? error : `threw ${JSON.stringify(error) ?? String(error)}`;
    } catch {
      return `threw ${String(error)}`;
    }
  }
  const isPlain = error.name === "Error" || error instanceof RefusalError;
  const text = isPlain ? error.message : `${error.name}: ${error.message}`;
  const at = place(error);
  return at ? `${text} at ${at}` : text;
}

/** An error as the contract's `failure`. */
export function toWire(error) {
  if (!(error instanceof Failure)) return { tag: "error", val: reasonOf(error) };
  const reason = error.message;
  if (error.verdict === "reject") return { tag: "reject", val: reason };
  return { tag: error.verdict, val: { reason, afterMs: error.afterMs } };
}
