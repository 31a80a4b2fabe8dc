// TextEncoder and TextDecoder. What is well formed goes through functions that
// QuickJS has in C; only broken UTF-8 is decoded byte by byte here.

const CHUNK = 8_192;
const NOTHING = new Uint8Array();
const LABELS = {
  "utf-8": "utf-8", utf8: "utf-8", "unicode-1-1-utf-8": "utf-8",
  "utf-16le": "utf-16le", "utf-16": "utf-16le", "ucs-2": "utf-16le",
  latin1: "windows-1252", "iso-8859-1": "windows-1252", ascii: "windows-1252", "us-ascii": "windows-1252", "windows-1252": "windows-1252",
};

function binary(bytes) {
  if (bytes.length <= CHUNK) return String.fromCharCode.apply(null, bytes);
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) text += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK));
  return text;
}

/** Whether no byte is above 127. `Math.max` looks at a chunk in C; a RegExp takes longer. */
function isAscii(bytes) {
  if (bytes.length <= CHUNK) return Math.max.apply(null, bytes) < 0x80;
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (Math.max.apply(null, bytes.subarray(at, at + CHUNK)) >= 0x80) return false;
  }
  return true;
}

/** The text of UTF-8, with its byte order mark if it has one. A fatal one throws where it is broken. */
function utf8(bytes, fatal) {
  const text = binary(bytes);
  if (isAscii(bytes)) return text;
  try {
    return decodeURIComponent(escape(text));
  } catch {
    if (fatal) throw new TypeError("the bytes are not valid UTF-8");
    return lossy(bytes);
  }
}

const withoutMark = (text) => (text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);

/** What `new TextDecoder("utf-8", { fatal }).decode(bytes)` answers, without making one. */
export const textOf = (bytes, fatal = false) => withoutMark(utf8(bytes, fatal));

export class TextEncoder {
  encoding = "utf-8";

  encode(input = "") {
    const text = unescape(encodeURIComponent(String(input).toWellFormed()));
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    return bytes;
  }

  encodeInto(input, target) {
    let read = 0;
    let written = 0;
    for (const c of String(input)) {
      const bytes = this.encode(c);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      written += bytes.length;
      read += c.length;
    }
    return { read, written };
  }
}

export class TextDecoder {
  #rest = NOTHING;
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    this.encoding = LABELS[String(label).trim().toLowerCase()];
    if (!this.encoding) throw new RangeError(`${label} is no encoding known here: utf-8, utf-16le and latin1 are`);
    this.fatal = fatal;
    this.ignoreBOM = ignoreBOM;
  }

  decode(input = new Uint8Array(), { stream = false } = {}) {
    let bytes = input instanceof ArrayBuffer ? new Uint8Array(input) : new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
    if (this.#rest.length > 0) {
      const whole = new Uint8Array(this.#rest.length + bytes.length);
      whole.set(this.#rest);
      whole.set(bytes, this.#rest.length);
      bytes = whole;
    }
    const cut = stream ? bytes.length - unfinished(bytes, this.encoding) : bytes.length;
    this.#rest = cut < bytes.length ? bytes.slice(cut) : NOTHING;
    const text = this.#whole(bytes.subarray(0, cut));
    return this.ignoreBOM ? text : withoutMark(text);
  }

  #whole(bytes) {
    if (this.encoding === "windows-1252") return binary(bytes);
    if (this.encoding === "utf-16le") return utf16(bytes);
    return utf8(bytes, this.fatal);
  }
}

/** Bytes at the end that begin a character which more bytes would finish. */
function unfinished(bytes, encoding) {
  if (encoding === "windows-1252") return 0;
  if (encoding === "utf-16le") return bytes.length % 2;
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back];
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
  }
  return 0;
}

function utf16(bytes) {
  let text = "";
  for (let at = 0; at + 1 < bytes.length; at += 2) text += String.fromCharCode(bytes[at] | (bytes[at + 1] << 8));
  return bytes.length % 2 ? `${text}\ufffd` : text.toWellFormed();
}

/** UTF-8 with U+FFFD for each part that is none, as the Encoding Standard says. */
function lossy(bytes) {
  let text = "";
  let at = 0;
  while (at < bytes.length) {
    const first = bytes[at];
    at += 1;
    if (first < 0x80) {
      text += String.fromCharCode(first);
      continue;
    }
    const more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
    let point = more === 1 ? first & 0x1f : more === 2 ? first & 0x0f : first & 0x07;
    let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    let left = more;
    while (left > 0 && at < bytes.length && bytes[at] >= low && bytes[at] <= high) {
      point = (point << 6) | (bytes[at] & 0x3f);
      [low, high] = [0x80, 0xbf];
      at += 1;
      left -= 1;
    }
    text += more > 0 && left === 0 ? String.fromCodePoint(point) : "\ufffd";
  }
  return text;
}
