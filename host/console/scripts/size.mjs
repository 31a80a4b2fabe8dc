// Prints what a browser fetches, gzipped, and fails past the bound.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import { gzipSync } from "node:zlib";

const BOUND_KB = 350;
const dist = new URL("../dist/", import.meta.url).pathname;

function files(folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : [path];
  });
}

const sizes = new Map();
for (const path of files(dist)) {
  const kind = extname(path).slice(1);
  sizes.set(kind, (sizes.get(kind) ?? 0) + gzipSync(readFileSync(path)).length);
}
const total = [...sizes.values()].reduce((sum, size) => sum + size, 0) / 1000;
for (const [kind, size] of sizes) console.log(`${kind.padEnd(6)} ${(size / 1000).toFixed(1).padStart(7)} KB gzipped`);
console.log(`total  ${total.toFixed(1).padStart(7)} KB gzipped, the bound is ${BOUND_KB} KB`);
if (total > BOUND_KB) process.exit(1);
