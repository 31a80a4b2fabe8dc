/** Troubles of one kind with one subject, as one. */
import type { Attention } from "../../api/shapes";

export interface Folded extends Attention {
  /** How many others are like it. */
  more: number;
}

/** The first of each kind and subject stands for all of them; the host names the newest first. */
export function fold(items: readonly Attention[]): Folded[] {
  const folded = new Map<string, Folded>();
  for (const item of items) {
    const key = `${item.kind} ${item.subject}`;
    const first = folded.get(key);
    if (first) first.more += 1;
    else folded.set(key, { ...item, more: 0 });
  }
  return [...folded.values()];
}
