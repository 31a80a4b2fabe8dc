/** The measures of tables, and where their keys lead. */

/** The height of every row, as the style sheet has it. */
export const ROW_PX = 32;
/** Between columns, and at both ends together. */
const GAP_PX = 14;
/** Rows that Page Up and Page Down go over. */
const LEAP = 20;

/** What the columns need at least; with less room the table scrolls sideways. */
export function least(widths: string[]): number {
  const pixels = widths.map((width) => Number(/(\d+)px/.exec(width)?.[1] ?? 0));
  return pixels.reduce((sum, width) => sum + width, 0) + GAP_PX * (widths.length + 1);
}

/** The row that a key moves to; null for keys that move nowhere. */
export function target(key: string, active: number, rows: number): number | null {
  switch (key) {
    case "ArrowDown":
      return active + 1;
    case "ArrowUp":
      return active - 1;
    case "PageDown":
      return active + LEAP;
    case "PageUp":
      return active - LEAP;
    case "Home":
      return 0;
    case "End":
      return rows - 1;
    default:
      return null;
  }
}
