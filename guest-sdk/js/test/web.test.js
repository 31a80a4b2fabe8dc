// The parts of the web that the SDK brings into a component, against Node's own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { structuredClone as clone } from "../src/clone.js";
import { parse, stringify } from "../src/json.js";
import { TextDecoder as Decoder, TextEncoder as Encoder, textOf } from "../src/text.js";
import { URL as Url, URLSearchParams as Params } from "../src/url.js";

test("URLs are read as Node reads them", () => {
  const fields = ["href", "protocol", "username", "password", "host", "hostname", "port", "origin", "pathname", "search", "hash"];
  for (const [input, base] of [
    ["https://api.example.com/a/b?x=1&y=2#z"], ["HTTP://EXAMPLE.com:80/"], ["https://u:p%40@h:8443/a b/é?ü=ä#ö"],
    ["../c/./d?q", "https://h/a/b/x"], ["//other/x", "https://h/a"], ["?q=1", "https://h/a?b#c"], ["#f", "https://h/a?b"],
    ["https:\\\\h\\a\\..\\b"], ["http://[::1]:8080/x"], ["mailto:a@b.example"], ["https://h/%7Efoo/%2e%2e/bar"], ["/abs", "http://h:81/x/y"],
    ["https://h?x='1'"], ["  https://h/a\nb  "], ["https://h/a|b`c{d}"], ["http://h:0443/"], ["data:text/plain,hi there"],
  ]) {
    const [ours, nodes] = [new Url(input, base), new URL(input, base)];
    for (const field of fields) assert.equal(ours[field], nodes[field], `${field} of ${input}`);
  }
  for (const wrong of ["", "no-scheme", "https://", "https://a b/", "https://h:99999/", "http://[::1"]) {
    assert.throws(() => new Url(wrong), TypeError, wrong);
    assert.equal(Url.canParse(wrong), false);
  }
});

test("parameters are read and written as Node does", () => {
  for (const text of ["a=1&b=2&a=3", "?q=a+b%20c&x=%E4%BD%A0", "a", "=x", "a=%zz", "e=é"]) {
    assert.equal(String(new Params(text)), String(new URLSearchParams(text)), text);
  }
  const url = new Url("https://h/?a=1");
  url.searchParams.append("b", "x y&");
  url.searchParams.set("a", "2");
  assert.equal(url.href, "https://h/?a=2&b=x+y%26");
  url.search = "?c=3";
  assert.equal(url.searchParams.get("c"), "3");
});

test("text is encoded and decoded as Node does", () => {
  const bytes = [[], [0x61], [0xc3, 0xa9], [0xff, 0x61], [0xe2, 0x82], [0xf0, 0x9f, 0x98, 0x80], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xef, 0xbb, 0xbf, 0x61], [0xf0, 0x80, 0x80, 0x41]];
  // Characters lie across the ends of the parts that are looked at together.
  const long = [...new TextEncoder().encode("x".repeat(8_191) + "é".repeat(8_192) + "\ufeff")];
  for (const list of [...bytes, long, [...long, 0xff]]) {
    const input = Uint8Array.from(list);
    assert.equal(new Decoder().decode(input), new TextDecoder().decode(input), String(list));
    assert.equal(textOf(input), new TextDecoder().decode(input), String(list));
  }
  assert.throws(() => textOf(Uint8Array.of(0xff), true), TypeError);
  for (const text of ["", "tea", "é你😀", "\ud800x", "\0"]) {
    assert.deepEqual(new Encoder().encode(text), new TextEncoder().encode(text), JSON.stringify(text));
  }
  assert.throws(() => new Decoder("utf-8", { fatal: true }).decode(Uint8Array.of(0xff)), TypeError);
  const decoder = new Decoder();
  assert.equal(decoder.decode(Uint8Array.of(0xf0, 0x9f), { stream: true }) + decoder.decode(Uint8Array.of(0x98, 0x80)), "😀");
  assert.deepEqual(new Encoder().encodeInto("é😀", new Uint8Array(3)), { read: 1, written: 2 });
});

test("JSON is read as JSON.parse reads it, and whole numbers beyond 2^53 are right", () => {
  const long = "1234567890123456789";
  for (const text of ['{"a":[1,2.5,-3e2,true,null,"x\\u00e9\\n"],"__proto__":1}', "[]", "{}", '"1234567890123456"', " [ 1 , 2 ] "]) {
    const padded = `[${text}, "${long}"]`;
    assert.deepEqual(parse(padded), JSON.parse(padded));
  }
  assert.equal(parse(long), 1234567890123456789n);
  assert.equal(parse("-9223372036854775808"), -9223372036854775808n);
  assert.equal(parse("1234567890123456.5"), 1234567890123456.5);
  assert.equal(parse("9007199254740991"), 9007199254740991);
  for (const wrong of [`{"a":${long}`, `[${long},]`, `0${long}`, `${long} x`, `{a:${long}}`, `["\n",${long}]`]) {
    assert.throws(() => parse(wrong), SyntaxError, wrong);
  }
  assert.equal(stringify({ a: 2n ** 63n - 1n, b: ["x", 1n] }), '{"a":9223372036854775807,"b":["x",1]}');
  assert.throws(() => stringify(undefined), TypeError);
});

test("data is copied with its references", () => {
  const shared = { at: new Date(0) };
  const value = { shared, again: shared, map: new Map([["k", Uint8Array.of(1)]]), set: new Set([1]), list: [1, , 3], pattern: /a/gi };
  value.self = value;
  const made = clone(value);
  assert.deepEqual(made, value);
  assert.notEqual(made.shared, shared);
  assert.equal(made.shared, made.again);
  assert.equal(made.self, made);
  assert.throws(() => clone(() => 1), { name: "DataCloneError" });
});
