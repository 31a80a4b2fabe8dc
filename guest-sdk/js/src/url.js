// URL and URLSearchParams as the web has them, for hosts in ASCII.

const DEFAULT_PORTS = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21" };
const isSpecial = (protocol) => protocol in DEFAULT_PORTS;

const encode = (text, kept) => text.toWellFormed().replace(/[^!-~]|["#<>`{}?^|]/gu, (c) => (kept.includes(c) ? c : encodeURIComponent(c)));
const path = (text) => encode(text, "|^");
const query = (text) => encode(text, "?`{}|^").replace(/'/g, "%27");
const fragment = (text) => encode(text, "#?{}|^");
const userinfo = (text) => encode(text, "").replace(/[/:;=@[\\\]]/g, encodeURIComponent);

export class URLSearchParams {
  #pairs = [];
  #changed;
  constructor(init = "", changed = () => {}) {
    this.#changed = changed;
    if (typeof init === "string") this.#pairs = parsePairs(init);
    else if (typeof init[Symbol.iterator] === "function") for (const [name, value] of init) this.#pairs.push([String(name), String(value)]);
    else this.#pairs = Object.entries(init).map(([name, value]) => [name, String(value)]);
  }

  get size() {
    return this.#pairs.length;
  }

  get(name) {
    return this.#pairs.find(([known]) => known === name)?.[1] ?? null;
  }

  getAll(name) {
    return this.#pairs.filter(([known]) => known === name).map(([, value]) => value);
  }

  has(name) {
    return this.#pairs.some(([known]) => known === name);
  }

  append(name, value) {
    this.#pairs.push([String(name), String(value)]);
    this.#changed(this.toString());
  }

  set(name, value) {
    const at = this.#pairs.findIndex(([known]) => known === name);
    if (at < 0) return this.append(name, value);
    this.#pairs[at] = [name, String(value)];
    this.#pairs = this.#pairs.filter(([known], index) => known !== name || index === at);
    this.#changed(this.toString());
  }

  delete(name) {
    this.#pairs = this.#pairs.filter(([known]) => known !== name);
    this.#changed(this.toString());
  }

  sort() {
    this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#changed(this.toString());
  }

  forEach(callback, thisValue) {
    for (const [name, value] of this.#pairs) callback.call(thisValue, value, name, this);
  }

  *entries() {
    for (const pair of this.#pairs) yield [...pair];
  }

  *keys() {
    for (const [name] of this.#pairs) yield name;
  }

  *values() {
    for (const [, value] of this.#pairs) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  toString() {
    return this.#pairs.map((pair) => pair.map(formEncode).join("=")).join("&");
  }
}

const formEncode = (text) =>
  encodeURIComponent(text.toWellFormed()).replace(/[!'()~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`).replace(/%20/g, "+");

function formDecode(text) {
  const spaced = text.replace(/\+/g, " ");
  const bytes = unescape(spaced.replace(/[^\0-\x7f]/gu, encodeURIComponent));
  return new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)));
}

function parsePairs(text) {
  return text
    .replace(/^\?/, "")
    .split("&")
    .filter((part) => part !== "")
    .map((part) => {
      const at = part.indexOf("=");
      return at < 0 ? [formDecode(part), ""] : [formDecode(part.slice(0, at)), formDecode(part.slice(at + 1))];
    });
}

function hostOf(text, protocol) {
  if (!isSpecial(protocol)) return encode(text, "");
  if (text.startsWith("[")) {
    if (!/^\[[0-9a-f:.]+\]$/i.test(text)) throw new TypeError(`Invalid URL: ${text} is no address`);
    return text.toLowerCase();
  }
  let name;
  try {
    name = decodeURIComponent(text).toLowerCase();
  } catch {
    throw new TypeError(`Invalid URL: host ${text}`);
  }
  if (/[^\0-\x7f]/.test(name)) throw new TypeError(`Invalid URL: write the host ${name} in its ASCII form, xn--..`);
  if (name === "" || /[\0- "#%/:<>?@[\\\]^`{|}\x7f]/.test(name)) throw new TypeError(`Invalid URL: host ${text}`);
  return name;
}

function withoutDots(segments) {
  const kept = [];
  segments.forEach((segment, index) => {
    const isLast = index === segments.length - 1;
    const plain = segment.replace(/%2e/gi, ".");
    if (plain === "..") kept.pop();
    if (plain !== "." && plain !== "..") kept.push(segment);
    else if (isLast) kept.push("");
  });
  return kept;
}

function parse(input, base) {
  const text = input.replace(/^[\0- ]+|[\0- ]+$/g, "").replace(/[\t\n\r]/g, "");
  const [, scheme, rest] = /^([a-z][a-z0-9+.-]*:)([^]*)$/i.exec(text) ?? [];
  const protocol = scheme?.toLowerCase();
  const [, before, search, hash] = /^([^?#]*)(\?[^#]*)?(#[^]*)?$/.exec(protocol ? rest : text);
  const slashed = isSpecial(protocol ?? base?.protocol) ? before.replace(/\\/g, "/") : before;
  const tail = { search: search && search !== "?" ? `?${query(search.slice(1))}` : "", hash: hash && hash !== "#" ? `#${fragment(hash.slice(1))}` : "" };
  if (protocol && (slashed.startsWith("//") || isSpecial(protocol))) {
    return { protocol, ...authority(slashed.replace(isSpecial(protocol) ? /^\/*/ : /^\/\//, ""), protocol), ...tail };
  }
  if (protocol) return { protocol, username: "", password: "", hostname: null, port: "", pathname: slashed.startsWith("/") ? resolve(slashed, "") : encode(slashed, " #?`{}|^<>\""), ...tail };
  if (!base) throw new TypeError(`Invalid URL: ${input}`);
  if (base.hostname === null && !text.startsWith("#")) throw new TypeError(`Invalid URL: ${input} against ${base.protocol}`);
  if (slashed.startsWith("//")) return { protocol: base.protocol, ...authority(slashed.slice(2), base.protocol), ...tail };
  const pathname = slashed === "" ? base.pathname : resolve(slashed, base.pathname);
  return { ...base, pathname, search: tail.search || (slashed === "" ? base.search : ""), hash: tail.hash };
}

function resolve(given, basePath) {
  const whole = given.startsWith("/") ? given : `${basePath.replace(/[^/]*$/, "")}${given}`;
  return `/${withoutDots(whole.split("/").slice(1)).map(path).join("/")}`;
}

function authority(text, protocol) {
  const end = text.indexOf("/");
  const whole = end < 0 ? text : text.slice(0, end);
  const at = whole.lastIndexOf("@");
  const [username, ...password] = at < 0 ? [""] : whole.slice(0, at).split(":");
  const [, name, port] = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(whole.slice(at + 1)) ?? [];
  if (name === undefined || Number(port) > 65_535) throw new TypeError(`Invalid URL: ${whole}`);
  const number = port ? String(Number(port)) : "";
  return {
    username: userinfo(username),
    password: userinfo(password.join(":")),
    hostname: hostOf(name, protocol),
    port: number === DEFAULT_PORTS[protocol] ? "" : number,
    pathname: end < 0 ? (isSpecial(protocol) ? "/" : "") : resolve(text.slice(end), ""),
  };
}

export class URL {
  #parts;
  #params;
  constructor(input, base) {
    this.#parts = parse(String(input), base === undefined ? undefined : parse(String(base)));
    this.#follow();
  }

  static canParse(input, base) {
    return URL.parse(input, base) !== null;
  }

  static parse(input, base) {
    try {
      return new URL(input, base);
    } catch {
      return null;
    }
  }

  #follow() {
    this.#params = new URLSearchParams(this.#parts.search, (text) => {
      this.#parts.search = text && `?${text}`;
    });
  }

  get href() {
    const { protocol, username, password, hostname, pathname, search, hash } = this.#parts;
    const login = username || password ? `${username}${password && `:${password}`}@` : "";
    return `${protocol}${hostname === null ? "" : `//${login}${this.host}`}${pathname}${search}${hash}`;
  }

  set href(input) {
    this.#parts = parse(String(input));
    this.#follow();
  }

  get protocol() {
    return this.#parts.protocol;
  }

  get username() {
    return this.#parts.username;
  }

  get password() {
    return this.#parts.password;
  }

  get hostname() {
    return this.#parts.hostname ?? "";
  }

  set hostname(name) {
    this.#parts.hostname = hostOf(String(name), this.protocol);
  }

  get port() {
    return this.#parts.port;
  }

  set port(port) {
    const number = String(port) === "" ? "" : String(Number(port));
    this.#parts.port = number === DEFAULT_PORTS[this.protocol] ? "" : number;
  }

  get host() {
    return this.port ? `${this.hostname}:${this.port}` : this.hostname;
  }

  get origin() {
    return isSpecial(this.protocol) ? `${this.protocol}//${this.host}` : "null";
  }

  get pathname() {
    return this.#parts.pathname;
  }

  set pathname(text) {
    const given = String(text);
    this.#parts.pathname = resolve(given.startsWith("/") ? given : `/${given}`, "");
  }

  get search() {
    return this.#parts.search;
  }

  set search(text) {
    const given = String(text).replace(/^\?/, "");
    this.#parts.search = given && `?${query(given)}`;
    this.#follow();
  }

  get searchParams() {
    return this.#params;
  }

  get hash() {
    return this.#parts.hash;
  }

  set hash(text) {
    const given = String(text).replace(/^#/, "");
    this.#parts.hash = given && `#${fragment(given)}`;
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
  }
}
