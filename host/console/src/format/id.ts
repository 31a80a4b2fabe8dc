/** Ids, shortened so that two of them still differ. */

/** `sha256:1f3a…` as `1f3a9c02`; the whole is a click away. */
export function shortVersion(version: string): string {
  // That of a plugin which comes with the host is short as it is: http-push@0.1.0.
  return version.includes("@") ? version : version.replace(/^sha256:/, "").slice(0, 8);
}

/** A text in which whole digests stand, each by its first digits. */
export function shortDigests(text: string): string {
  return text.replace(/sha256:[0-9a-f]{64}/g, (digest) => `sha256:${shortVersion(digest)}…`);
}

/**
 * The first and the last characters of a long id. UUIDs of version 7 begin
 * alike when they were made in the same second, so the end matters.
 */
export function shortId(id: string, most = 14): string {
  if (id.length <= most) return id;
  const tail = Math.min(8, Math.floor(most / 2));
  return `${id.slice(0, most - tail - 1)}…${id.slice(-tail)}`;
}
