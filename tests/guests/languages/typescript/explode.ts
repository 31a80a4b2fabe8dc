/** Throws from a module of its own, as line 3 of it. */
export function explode(name: string): never {
  throw new RangeError(`no place for ${name}`);
}
