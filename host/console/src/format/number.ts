/** Counts and sizes. What is not known is null and never becomes a zero. */
import type { Language } from "../i18n/language";

/** `12,345`; null is `–`, which its caller names for screen readers. */
export function count(value: number | null | undefined, language: Language): string {
  return value === null || value === undefined ? "–" : value.toLocaleString(language);
}

/** `1.2k`, `34k`, `5.6M`: where a chart's axis has no room. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size < 1_000) return String(Math.round(value * 10) / 10);
  if (size < 1_000_000) return `${trim(value / 1_000)}k`;
  if (size < 1_000_000_000) return `${trim(value / 1_000_000)}M`;
  return `${trim(value / 1_000_000_000)}G`;
}

/** `812 B`, `1.5 KiB`, `12 MiB`. */
export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = "";
  for (const next of units) {
    if (size < 1024) break;
    size /= 1024;
    unit = next;
  }
  return `${trim(size)} ${unit}`;
}

function trim(value: number): string {
  return Math.abs(value) < 10 ? value.toFixed(1).replace(/\.0$/, "") : String(Math.round(value));
}
