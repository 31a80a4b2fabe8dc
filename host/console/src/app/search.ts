/**
 * The URL's query as flat text: `?group=stock&state=HANDLE_FAIL`, which people
 * can read, type and send.
 */

export type Search = Record<string, string | undefined>;

export function parseSearch(text: string): Search {
  return Object.fromEntries(new URLSearchParams(text));
}

export function writeSearch(search: Record<string, unknown>): string {
  const pairs = Object.entries(search).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])).toString();
  return text ? `?${text}` : "";
}

/** Only the members that a page knows, so that a stray one never widens or breaks a list. */
export function only(search: Record<string, unknown>, names: readonly string[]): Search {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = search[name];
      return value === undefined || value === null || value === "" ? [] : [[name, String(value)]];
    }),
  );
}
