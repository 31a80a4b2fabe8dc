// JSON with whole numbers of any size: one that a double cannot hold is a BigInt.

const LONG_NUMBER = /\d{16}/;

/** Parses JSON. Integers beyond 2^53 become BigInt. */
export function parse(text) {
  return LONG_NUMBER.test(text) ? new Parser(text).document() : JSON.parse(text);
}

/** Writes JSON; a BigInt is written as the number it is. */
export function stringify(value) {
  let hasBigInt = false;
  const mark = `bigint:${Math.random().toString(36).slice(2)}:`;
  const text = JSON.stringify(value, (_key, item) => {
    if (typeof item !== "bigint") return item;
    hasBigInt = true;
    return mark + item;
  });
  if (text === undefined) throw new TypeError(`${typeof value} cannot be written as JSON`);
  return hasBigInt ? text.replace(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1") : text;
}

/** A reader of its own, since JSON.parse shows no number as it was written. */
class Parser {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  document() {
    const value = this.value();
    this.blank();
    if (this.at < this.text.length) this.fail();
    return value;
  }

  fail() {
    const found = this.at < this.text.length ? JSON.stringify(this.text[this.at]) : "the end";
    throw new SyntaxError(`unexpected ${found} at position ${this.at} of the JSON`);
  }

  blank() {
    while (" \n\r\t".includes(this.text[this.at] ?? "x")) this.at += 1;
  }

  take(token) {
    this.blank();
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  value() {
    if (this.take("{")) return this.object();
    if (this.take("[")) return this.array();
    if (this.take("true")) return true;
    if (this.take("false")) return false;
    if (this.take("null")) return null;
    return this.text[this.at] === '"' ? this.string() : this.number();
  }

  object() {
    const object = {};
    if (this.take("}")) return object;
    do {
      this.blank();
      const key = this.string();
      if (!this.take(":")) this.fail();
      // `__proto__` is a member like any other here, as in JSON.parse.
      Object.defineProperty(object, key, { value: this.value(), writable: true, enumerable: true, configurable: true });
    } while (this.take(","));
    if (!this.take("}")) this.fail();
    return object;
  }

  array() {
    const array = [];
    if (this.take("]")) return array;
    do array.push(this.value());
    while (this.take(","));
    if (!this.take("]")) this.fail();
    return array;
  }

  string() {
    const whole = /"(?:[^"\\]|\\.)*"/y;
    whole.lastIndex = this.at;
    const found = whole.exec(this.text);
    if (!found) this.fail();
    this.at = whole.lastIndex;
    return JSON.parse(found[0]);
  }

  number() {
    const whole = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
    whole.lastIndex = this.at;
    const found = whole.exec(this.text);
    if (!found) this.fail();
    this.at = whole.lastIndex;
    const number = Number(found[0]);
    const isInteger = found[1] === undefined && found[2] === undefined;
    return isInteger && !Number.isSafeInteger(number) ? BigInt(found[0]) : number;
  }
}
