/** Keys are any bytes: shown as text where they are text. */

export interface Keyed {
  key?: string | null;
  key_base64?: string | null;
}

/** The key for people; null without one. */
export function keyText(shown: Keyed): string | null {
  return shown.key_base64 ? `base64:${shown.key_base64}` : (shown.key ?? null);
}

/** The filter that finds the same key again. */
export function keyFilter(shown: Keyed): Record<string, string> {
  if (shown.key_base64) return { key_base64: shown.key_base64 };
  return shown.key ? { key: shown.key } : {};
}
