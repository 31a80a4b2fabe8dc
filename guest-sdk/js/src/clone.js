// structuredClone: a deep copy of data.

const refuse = (value) => {
  throw new DOMException(`${typeof value === "function" ? "a function" : String(value)} cannot be cloned`, "DataCloneError");
};

/** Copies data, with all references among its parts. */
export function structuredClone(value) {
  return copy(value, new Map());
}

function copy(value, known) {
  if (typeof value === "function" || typeof value === "symbol") refuse(value);
  if (typeof value !== "object" || value === null) return value;
  if (known.has(value)) return known.get(value);
  const keep = (made) => {
    known.set(value, made);
    return made;
  };
  if (value instanceof Date) return keep(new Date(value));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice());
  if (ArrayBuffer.isView(value)) {
    const buffer = copy(value.buffer, known);
    const length = value instanceof DataView ? value.byteLength : value.length;
    return keep(new value.constructor(buffer, value.byteOffset, length));
  }
  if (value instanceof Map) {
    const made = keep(new Map());
    for (const [key, item] of value) made.set(copy(key, known), copy(item, known));
    return made;
  }
  if (value instanceof Set) {
    const made = keep(new Set());
    for (const item of value) made.add(copy(item, known));
    return made;
  }
  if (value instanceof Error) {
    const made = keep(new (globalThis[value.name] ?? Error)(value.message));
    made.stack = value.stack;
    return made;
  }
  if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet) refuse(value);
  const made = keep(Array.isArray(value) ? new Array(value.length) : {});
  for (const key of Object.keys(value)) made[key] = copy(value[key], known);
  return made;
}
