/** Lengths of time, as short as they can be said without lying. */

const UNITS: readonly [name: string, ms: number][] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
];

/** `340 µs`, `12 ms`, `3.4 s`, `2 m 5 s`, `3 h 10 m`, `4 d 2 h`. */
export function duration(ms: number): string {
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${trim(ms.toFixed(1))} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${trim((ms / 1_000).toFixed(1))} s`;
  // Rounded to seconds first, so that 59.9 minutes never read as "59 m 60 s".
  let left = Math.round(ms / 1_000) * 1_000;
  const parts: string[] = [];
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(`${count} ${name}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

function trim(number: string): string {
  return number.replace(/\.0$/, "");
}

/** A duration as filters and TOML write it (`15m`, `24h`), in milliseconds. */
export function readDuration(text: string): number | null {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (!match) return null;
  const size = match[2] === "ms" ? 1 : UNITS.find(([name]) => name === match[2])?.[1];
  return size === undefined ? null : Number(match[1]) * size;
}
