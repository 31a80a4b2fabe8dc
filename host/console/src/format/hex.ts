/** Bytes as people who look for one wrong byte want them. */

export function fromBase64(text: string): Uint8Array {
  const binary = atob(text);
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

export function toBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The bytes as UTF-8, or null when they are none. */
export function asText(data: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return null;
  }
}

/** `00000010  48 65 6c 6c 6f …  |Hello…|`, sixteen a line. */
export function hexdump(data: Uint8Array): string {
  const lines: string[] = [];
  for (let from = 0; from < data.length; from += 16) {
    const row = [...data.subarray(from, from + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0"));
    const shown = `${hex.slice(0, 8).join(" ").padEnd(23)}  ${hex.slice(8).join(" ").padEnd(23)}`;
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${from.toString(16).padStart(8, "0")}  ${shown}  |${text}|`);
  }
  return lines.join("\n");
}
