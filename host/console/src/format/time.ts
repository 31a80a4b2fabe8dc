/** Times as the API gives them (RFC 3339 with microseconds), and as people read them. */
import type { Language } from "../i18n/language";
import { duration, readDuration } from "./duration";

/** Milliseconds since 1970 with the microseconds kept as a fraction. */
export function millis(time: string): number {
  const match = /^(.*?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(time);
  if (!match) return Date.parse(time);
  const fraction = match[2] ? Number(`0.${match[2]}`) * 1_000 : 0;
  return Date.parse(`${match[1]}${match[3]}`) + fraction;
}

/** `14:03:22.123` today, else `24 Nov 14:03:22`, else with the year; local time. */
export function exact(time: string, now: number, language: Language): string {
  const at = new Date(millis(time));
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const today = new Date(now);
  if (at.toDateString() === today.toDateString()) return `${clock}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  const sameYear = at.getFullYear() === today.getFullYear();
  const day = at.toLocaleDateString(language, {
    day: "numeric",
    month: "short",
    ...(sameYear ? {} : { year: "numeric" }),
  });
  return `${day} ${clock}`;
}

/** Everything a time says, for a title: local with offset, and UTC as the API has it. */
export function full(time: string): string {
  return `${new Date(millis(time)).toString()}\n${time}`;
}

/** How long ago or in how long: one unit, since the exact time stands beside it. */
export function relative(time: string, now: number, language: Language): string {
  const ms = millis(time) - now;
  const size = Math.abs(ms);
  const words = new Intl.RelativeTimeFormat(language, { numeric: "always", style: "narrow" });
  const sign = ms < 0 ? -1 : 1;
  if (size < 60_000) return words.format(sign * Math.round(size / 1_000), "second");
  if (size < 3_600_000) return words.format(sign * Math.round(size / 60_000), "minute");
  if (size < 86_400_000) return words.format(sign * Math.round(size / 3_600_000), "hour");
  return words.format(sign * Math.round(size / 86_400_000), "day");
}

/** Between two times: `12 ms`. */
export function between(from: string, to: string): string {
  return duration(millis(to) - millis(from));
}

/** A bound of a filter as the API takes it: a length of time is that long ago. */
export function bound(text: string, now: number): string {
  const ago = readDuration(text);
  return ago === null ? text : new Date(now - ago).toISOString();
}

function two(number: number): string {
  return String(number).padStart(2, "0");
}
