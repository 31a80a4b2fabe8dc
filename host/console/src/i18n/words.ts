/**
 * Dictionaries: what the console says, in each language.
 *
 * Every page has a `words.ts` of its own, so that a page carries its words with
 * it. English decides which keys there are; a key that Chinese lacks does not
 * compile, and a test compares the places for values.
 */
import type { Language } from "./language";

export type Values = Record<string, string | number>;
export type Dictionary<Key extends string> = Record<Language, Record<Key, string>>;

/** A dictionary whose languages have the same keys. */
export function dictionary<Key extends string>(languages: {
  en: Record<Key, string>;
  zh: Record<NoInfer<Key>, string>;
}): Dictionary<Key> {
  return languages;
}

const PLACE = /\{(\w+)(?::([^{}|]*)\|([^{}]*))?\}/g;

/**
 * Fills a sentence's places: `{name}` with a value, and `{n:key|keys}` with the
 * word for one or for many. Numbers are grouped as the language does it.
 */
export function fill(sentence: string, values: Values, language: Language): string {
  return sentence.replace(PLACE, (whole, name: string, one?: string, many?: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    if (one !== undefined && many !== undefined) return value === 1 ? one : many;
    return typeof value === "number" ? value.toLocaleString(language) : value;
  });
}

/** The names of the places in a sentence, for the test that compares languages. */
export function places(sentence: string): string[] {
  return [...new Set([...sentence.matchAll(PLACE)].map((match) => match[1] ?? ""))].sort();
}
