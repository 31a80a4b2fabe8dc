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
