// The mappings of a source map, decoded.

const DIGITS = new Map([..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].map((c, index) => [c, index]));

/** For each line its segments: column, source, line and column there, all from 0. */
export function decodeMappings(text) {
  let [source, line, column] = [0, 0, 0];
  return text.split(";").map((row) => {
    let at = 0;
    const segments = [];
    for (const segment of row.split(",")) {
      const fields = numbers(segment);
      if (fields.length === 0) continue;
      at += fields[0];
      if (fields.length < 4) continue;
      source += fields[1];
      line += fields[2];
      column += fields[3];
      segments.push([at, source, line, column]);
    }
    return segments;
  });
}

function numbers(text) {
  const found = [];
  let [value, shift] = [0, 0];
  for (const c of text) {
    const digit = DIGITS.get(c);
    value |= (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    found.push(value & 1 ? -(value >>> 1) : value >>> 1);
    [value, shift] = [0, 0];
  }
  return found;
}
