import type { Receipt } from "./answers.js";
import { RefusedError, words, type Problem } from "./errors.js";

/** An answer longer than this is not read on: no host's is. */
const ANSWER_LIMIT_BYTES = 64 * 1024 * 1024;
/** A wait that a host asks for is believed up to this. */
const RETRY_AFTER_LIMIT_MS = 60_000;

/** One request. */
export interface Request {
  method: "GET" | "POST" | "DELETE";
  url: URL;
  body?: string;
}

/** The answer of a host, or why there is none for certain. */
export type Tried =
  | { status: number; text: string; retryAfterMs: number }
  | { again: string; retryAfterMs: number };

/** What became of one message of a request. */
export type Answered = { receipt: Receipt } | { refused: RefusedError } | { again: string };

/** Whether what this status says may pass by itself. */
function passes(status: number): boolean {
  return (status >= 500 && status !== 501) || status === 408 || status === 425 || status === 429;
}

/** Asks once; never throws for what the network does. */
export async function ask(request: Request, headers: Record<string, string>, signal: AbortSignal): Promise<Tried> {
  try {
    const answer = await fetch(request.url, {
      method: request.method,
      headers,
      ...(request.body !== undefined && { body: request.body }),
      // A token goes to the host that was named, and nowhere else.
      redirect: "manual",
      signal,
    });
    const text = await textOf(answer);
    const seconds = Number(answer.headers.get("retry-after") ?? 0);
    const retryAfterMs = Number.isFinite(seconds) ? Math.min(Math.max(seconds * 1000, 0), RETRY_AFTER_LIMIT_MS) : 0;
    if (passes(answer.status)) {
      return { again: words(problemOf(answer.status, text)), retryAfterMs };
    }
    return { status: answer.status, text, retryAfterMs };
  } catch (error) {
    return { again: reason(error), retryAfterMs: 0 };
  }
}

async function textOf(answer: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of answer.body ?? []) {
    size += part.byteLength;
    if (size > ANSWER_LIMIT_BYTES) throw new Error(`the answer has more than ${ANSWER_LIMIT_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** The problem document of an answer that is not a success. */
export function problemOf(status: number, text: string): Problem {
  try {
    const problem = JSON.parse(text) as Problem;
    if (problem !== null && typeof problem.title === "string") return problem;
  } catch {
    // Something between us and the host answered.
  }
  return { title: `answered ${status}`, status };
}

interface Item {
  id: string | null;
  state: Receipt["state"];
  retrying?: boolean;
  problem?: Problem;
  warning?: string;
}

/** Makes out what an answer to `POST /v1/messages` says, message by message. */
export function readPublished(status: number, text: string, many: boolean): Answered[] | RefusedError | string {
  const answer = parse(text) as { items?: Item[] } & Item;
  if (status === 202) {
    const items = many ? answer?.items : answer?.state && [answer];
    return Array.isArray(items) ? items.map(answered) : "the answer is not a host's";
  }
  if (Array.isArray(answer?.items)) return answer.items.map(answered);
  return new RefusedError(status, problemOf(status, text));
}

function answered(item: Item): Answered {
  const { problem } = item;
  if (!problem) {
    const receipt: Receipt = { id: item.id ?? "", state: item.state, retrying: item.retrying ?? false };
    if (item.warning !== undefined) receipt.warning = item.warning;
    return { receipt };
  }
  const status = problem.status ?? 400;
  if (passes(status)) return { again: words(problem) };
  return { refused: new RefusedError(status, problem, item.id ?? problem.id) };
}

/** JSON, or undefined where it is none. */
export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The causes of an error in a line; the outermost of `fetch` says little. */
export function reason(error: unknown): string {
  const parts: string[] = [];
  for (let at = error; at instanceof Error; at = at.cause) {
    const all = at instanceof AggregateError ? at.errors.map((one) => String((one as Error).message)) : [at.message];
    parts.push(...all.filter((text) => text !== ""));
  }
  return parts.length > 0 ? parts.join(": ") : String(error);
}
