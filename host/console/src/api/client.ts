/** Requests to the host that served this page. */
import { Problem } from "./problem";

export type Query = Record<string, string | number | boolean | undefined>;

interface Options {
  query?: Query;
  body?: unknown;
  signal?: AbortSignal | undefined;
}

/** Changes made by a session need its token beside the cookie. */
let csrf: string | null = null;

export function rememberCsrf(token: string | null): void {
  csrf = token;
}

/** `/v1/groups/a%2Fb` from the pieces of a path. */
export function path(...segments: string[]): string {
  return `/v1/${segments.map(encodeURIComponent).join("/")}`;
}

function address(base: string, query: Query | undefined): string {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== "");
  if (pairs.length === 0) return base;
  return `${base}?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}`;
}

async function refusal(answer: Response): Promise<Problem> {
  const text = await answer.text();
  try {
    const said = JSON.parse(text) as { title?: string; detail?: string };
    return new Problem(answer.status, said.title ?? answer.statusText, said.detail ?? text);
  } catch {
    return new Problem(answer.status, answer.statusText, text.slice(0, 500) || answer.statusText);
  }
}

async function ask(method: string, base: string, init: RequestInit, options: Options): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("accept", "application/json");
  if (csrf && method !== "GET") headers.set("x-courier-csrf", csrf);
  let answer: Response;
  try {
    answer = await fetch(address(base, options.query), { ...init, method, headers, signal: options.signal ?? null });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "no answer", "the host does not answer");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** Reads a shape. */
export async function get<T>(base: string, options: Options = {}): Promise<T> {
  return (await (await ask("GET", base, {}, options)).json()) as T;
}

/** Reads an answer as the text it came as. */
export async function getText(base: string, options: Options = {}): Promise<string> {
  return (await ask("GET", base, {}, options)).text();
}

/** Asks for a change; the answer's shape, or undefined when it has none. */
export async function change<T = void>(
  method: "POST" | "PUT" | "DELETE",
  base: string,
  options: Options = {},
): Promise<T> {
  const init: RequestInit = {};
  if (options.body instanceof Blob) {
    init.body = options.body;
    init.headers = { "content-type": "application/wasm" };
  } else if (options.body !== undefined) {
    init.body = JSON.stringify(options.body);
    init.headers = { "content-type": "application/json" };
  }
  const answer = await ask(method, base, init, options);
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as T;
}
