/** Imports of a component in words. */
import type { words } from "./words";

type Word = keyof typeof words.en;

/** Interfaces by a part of their name, and what each means to an operator. */
const MEANINGS: readonly [part: RegExp, word: Word][] = [
  [/^wasi:http\//, "http"],
  [/\/(batch-)?publish(@|$)/, "publish"],
  [/\/(batch-)?state(@|$)/, "state_"],
  [/\/cache(@|$)/, "cache"],
  [/\/config(@|$)/, "config"],
];

/** What every component has without asking: no capabilities stand behind these. */
const PLAIN = /^wasi:(cli|clocks|filesystem|io|random|sockets)\/|\/(log|clock|random|types|message)(@|$)/;

export interface Wants {
  words: Word[];
  /** Imports that none of the words covers. */
  other: string[];
}

export function wants(imports: readonly string[]): Wants {
  const found = new Set<Word>();
  const other: string[] = [];
  for (const name of imports) {
    const meaning = MEANINGS.find(([part]) => part.test(name));
    if (meaning) found.add(meaning[1]);
    else if (!PLAIN.test(name)) other.push(name);
  }
  return { words: [...found], other };
}

/** What a component says of itself, as its SDK wrote it down. */
export interface Made {
  group?: string;
  topics?: string[];
  types?: string[];
  publishes?: string[];
}

/** The claims that are well formed; a component may say anything of itself. */
export function made(claims: unknown): Made {
  if (typeof claims !== "object" || claims === null) return {};
  const said = claims as Record<string, unknown>;
  const texts = (value: unknown) =>
    Array.isArray(value) && value.length > 0 ? value.filter((one) => typeof one === "string") : undefined;
  const found: Made = {};
  if (typeof said["group"] === "string") found.group = said["group"];
  for (const name of ["topics", "types", "publishes"] as const) {
    const list = texts(said[name]);
    if (list) found[name] = list;
  }
  return found;
}
