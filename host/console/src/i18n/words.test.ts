import { describe, expect, it } from "vitest";
import { type Dictionary, fill, places } from "./words";

const modules = import.meta.glob<Record<string, unknown>>(["../**/words.ts", "../**/words/*.ts", "!./words.ts"], {
  eager: true,
});
const sources = import.meta.glob<string>(["../{app,pages,ui}/**/*.tsx"], {
  eager: true,
  query: "?raw",
  import: "default",
});

const dictionaries = Object.entries(modules).flatMap(([file, module]) =>
  Object.values(module).map((words) => [file, words as Dictionary<string>] as const),
);

describe("the dictionaries", () => {
  it("are found", () => {
    expect(dictionaries.length).toBeGreaterThan(14);
  });

  it.each(dictionaries)("%s says the same in both languages", (_, { en, zh }) => {
    expect(Object.keys(zh).sort()).toEqual(Object.keys(en).sort());
    for (const [key, sentence] of Object.entries(en)) {
      expect(sentence, key).not.toBe("");
      expect(zh[key], key).not.toBe("");
      expect(places(zh[key] ?? ""), key).toEqual(places(sentence));
    }
  });

  it("hold every word of the pages: no component has one of its own", () => {
    // Text between tags that is more than a sign, a unit or the product's name.
    const text = />([^<>{}]*[A-Za-z]{3,}[^<>{}]*)<\//g;
    const allowed = /^\s*(Courier|courier [a-z]+.*|EN)\s*$|[=;()]|=>|^\s*[,:?|&]/;
    for (const [file, source] of Object.entries(sources)) {
      const found = [...source.matchAll(text)].map((match) => match[1] ?? "").filter((words) => !allowed.test(words));
      expect(found, file).toEqual([]);
    }
  });
});

describe("a sentence", () => {
  it("is filled in", () => {
    expect(fill("{n} {n:key|keys} of {group}", { n: 1, group: "stock" }, "en")).toBe("1 key of stock");
    expect(fill("{n} {n:key|keys}", { n: 12_345 }, "en")).toBe("12,345 keys");
    expect(fill("{missing}", {}, "en")).toBe("{missing}");
  });
});
