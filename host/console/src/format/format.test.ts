import { describe, expect, it } from "vitest";
import { duration, readDuration } from "./duration";
import { asText, fromBase64, hexdump, toBytes } from "./hex";
import { pieces, plain } from "./hostile";
import { shortId, shortVersion } from "./id";
import { member, pretty } from "./json";
import { bytes, count, short } from "./number";
import { bound, millis, relative } from "./time";

describe("numbers", () => {
  it("keep unknown apart from zero", () => {
    expect(count(0, "en")).toBe("0");
    expect(count(null, "en")).toBe("–");
    expect(count(1_234_567, "en")).toBe("1,234,567");
  });

  it("shorten without changing their size", () => {
    expect([0, 999, 1_000, 1_550, 34_000, 5_600_000].map(short)).toEqual(["0", "999", "1k", "1.6k", "34k", "5.6M"]);
    expect([0, 1023, 1024, 1536, 1_048_576].map(bytes)).toEqual(["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB"]);
  });
});

describe("durations", () => {
  it("say two units at most", () => {
    const said = [0, 0.34, 3.4, 12, 999, 3_400, 60_000, 125_000, 3_599_900, 11_400_000, 352_800_000].map(duration);
    expect(said).toEqual([
      "0 ms",
      "340 µs",
      "3.4 ms",
      "12 ms",
      "999 ms",
      "3.4 s",
      "1 m",
      "2 m 5 s",
      "1 h",
      "3 h 10 m",
      "4 d 2 h",
    ]);
  });

  it("are read as TOML writes them and nothing else is", () => {
    expect(["15m", "24h", "7d", "500ms"].map(readDuration)).toEqual([900_000, 86_400_000, 604_800_000, 500]);
    for (const wrong of ["", "15", "m", "1w", "-1h", "1.5h", "2026-01-01T00:00:00Z"])
      expect(readDuration(wrong)).toBeNull();
  });
});

describe("times", () => {
  it("keep their microseconds", () => {
    expect(millis("1970-01-01T00:00:01.000250Z")).toBeCloseTo(1_000.25, 5);
    expect(millis("1970-01-01T01:00:00+01:00")).toBe(0);
  });

  it("say how long ago in both languages", () => {
    expect(relative("1970-01-01T00:00:00Z", 90_000, "en")).toMatch(/2\s?m/);
    expect(relative("1970-01-01T00:02:00Z", 60_000, "zh")).toContain("1分钟");
  });

  it("turn a length of time into a bound and leave a time alone", () => {
    expect(bound("1h", Date.UTC(2026, 0, 1, 1))).toBe("2026-01-01T00:00:00.000Z");
    expect(bound("2026-01-01T00:00:00Z", 0)).toBe("2026-01-01T00:00:00Z");
  });
});

describe("ids", () => {
  it("keep the end that differs", () => {
    expect(shortId("01a20f89-39ce-778e-a121-f9fd156fd890", 16)).toBe("01a20f8…156fd890");
    expect(shortId("o-1")).toBe("o-1");
    expect(shortVersion("sha256:1f3a9c02ffff")).toBe("1f3a9c02");
  });
});

describe("JSON", () => {
  it("keeps the sender's own digits and repeated members", () => {
    const answer = '{"id":"a","body":{"price": 1.10,"n":123456789012345678901234567890,"n":2},"deliveries":[]}';
    const body = member(answer, "body");
    expect(body).toBe('{"price": 1.10,"n":123456789012345678901234567890,"n":2}');
    expect(pretty(body ?? "")).toBe('{\n  "price": 1.10,\n  "n": 123456789012345678901234567890,\n  "n": 2\n}');
  });

  it("is not misled by what stands in strings", () => {
    expect(member('{"a":"\\"body\\":1}","body":["}",{"x":"]"}]}', "body")).toBe('["}",{"x":"]"}]');
    expect(pretty('{"a":"b,{[\\"","c":[],"d":{}}')).toBe('{\n  "a": "b,{[\\"",\n  "c": [],\n  "d": {}\n}');
    expect(member("[1]", "body")).toBeNull();
    expect(member('{"x":1}', "body")).toBeNull();
  });

  it("ends on text that is none", () => {
    for (const wrong of ["", "{", '{"a', "}}}", ":::", "\u0000"]) expect(() => pretty(wrong)).not.toThrow();
  });
});

describe("bytes", () => {
  it("show in hex with their text beside", () => {
    expect(hexdump(toBytes("Hello\n"))).toBe("00000000  48 65 6c 6c 6f 0a                                 |Hello.|");
    expect(asText(fromBase64("/w=="))).toBeNull();
    expect(asText(fromBase64("PGE+"))).toBe("<a>");
  });
});

describe("text of strangers", () => {
  it("loses terminal colours and names what cannot be seen", () => {
    expect(plain("\u001b[31mred\u001b[0m")).toBe("red");
    expect(plain("a\u202eb\u0000c")).toBe("a‹U+202E›b‹U+0000›c");
    expect(pieces("<b>x</b>")).toEqual([{ text: "<b>x</b>" }]);
    expect(plain("tab\tand\nline")).toBe("tab\tand\nline");
    expect(plain("half \ud800 pair 😀")).toBe("half ‹U+D800› pair 😀");
  });
});
