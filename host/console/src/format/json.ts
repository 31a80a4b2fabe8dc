/**
 * JSON as its sender wrote it. Parsing and printing again would change numbers
 * (`1.10`, or twenty digits), so these work on the text itself, which the host
 * has checked to be JSON.
 */

/** The text of one member of the outermost object; null when it has none. */
export function member(text: string, name: string): string | null {
  let at = skipSpace(text, 0);
  if (text[at] !== "{") return null;
  at = skipSpace(text, at + 1);
  while (text[at] === '"') {
    const keyEnd = skipString(text, at);
    const key: unknown = JSON.parse(text.slice(at, keyEnd));
    const begin = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = skipValue(text, begin);
    if (key === name) return text.slice(begin, end);
    at = skipSpace(text, end);
    if (text[at] !== ",") return null;
    at = skipSpace(text, at + 1);
  }
  return null;
}

/** The same JSON with a line for each value, two spaces a level. */
export function pretty(text: string): string {
  const out: string[] = [];
  let depth = 0;
  // Never below zero, whatever text pretends to be JSON.
  const line = () => `\n${"  ".repeat(Math.max(0, depth))}`;
  for (let at = skipSpace(text, 0); at < text.length; at = skipSpace(text, at)) {
    const here = text[at] ?? "";
    if (here === "{" || here === "[") {
      const inner = skipSpace(text, at + 1);
      if (text[inner] === "}" || text[inner] === "]") {
        out.push(here, text[inner] ?? "");
        at = inner + 1;
        continue;
      }
      depth += 1;
      out.push(here, line());
      at += 1;
    } else if (here === "}" || here === "]") {
      depth -= 1;
      out.push(line(), here);
      at += 1;
    } else if (here === ",") {
      out.push(",", line());
      at += 1;
    } else if (here === ":") {
      out.push(": ");
      at += 1;
    } else {
      const end = here === '"' ? skipString(text, at) : skipScalar(text, at);
      out.push(text.slice(at, end));
      at = end;
    }
  }
  return out.join("");
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at += 1;
  return at;
}

/** Past the closing quote of the string that begins here. */
function skipString(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

function skipScalar(text: string, from: number): number {
  let at = from;
  while (at < text.length && !' \n\r\t,:{}[]"'.includes(text[at] ?? "")) at += 1;
  // Text that is no JSON after all must not be read for ever.
  return Math.max(at, from + 1);
}

function skipValue(text: string, from: number): number {
  if (text[from] === '"') return skipString(text, from);
  if (text[from] !== "{" && text[from] !== "[") return skipScalar(text, from);
  let depth = 0;
  let at = from;
  while (at < text.length) {
    const here = text[at];
    if (here === '"') {
      at = skipString(text, at);
      continue;
    }
    if (here === "{" || here === "[") depth += 1;
    if (here === "}" || here === "]") depth -= 1;
    at += 1;
    if (depth === 0) break;
  }
  return at;
}
