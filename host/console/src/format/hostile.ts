/**
 * Text that strangers wrote: keys, bodies, reasons, logs.
 *
 * React never makes HTML of it. What is left is what a terminal or a font would
 * do: colour codes are dropped, and characters that cannot be seen or that turn
 * the reading direction are named instead of obeyed.
 */

export type Piece = { text: string } | { code: string };

// ESC [ … letter, ESC ] … BEL or ST, and two-character escapes.
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are made of control characters
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;

// C0 but tab and newline, DEL and C1, soft hyphen, zero widths and direction
// marks, line separators, invisible operators, the byte order mark, lone
// surrogates, tags.
const UNSEEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\p{Surrogate}|[\u{e0000}-\u{e007f}]/gu;

/** The text without terminal colours. */
export function withoutAnsi(text: string): string {
  return text.replace(ANSI, "");
}

/** The text in pieces: what can be read, and the names of what cannot. */
export function pieces(text: string): Piece[] {
  const clean = withoutAnsi(text).replace(/\r\n/g, "\n");
  const found: Piece[] = [];
  let from = 0;
  for (const match of clean.matchAll(UNSEEN)) {
    if (match.index > from) found.push({ text: clean.slice(from, match.index) });
    const code = match[0].codePointAt(0) ?? 0;
    found.push({ code: `U+${code.toString(16).toUpperCase().padStart(4, "0")}` });
    from = match.index + match[0].length;
  }
  if (from < clean.length) found.push({ text: clean.slice(from) });
  return found;
}

/** The same as one plain text, for names that screen readers say and titles. */
export function plain(text: string): string {
  return pieces(text)
    .map((piece) => ("text" in piece ? piece.text : `‹${piece.code}›`))
    .join("");
}
