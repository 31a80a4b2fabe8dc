// What of the contract a handler uses, and the world that has that and no more.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The contract and WASI's interfaces, beside this file when it is installed. */
const WIT = process.env.COURIER_SDK_WIT ?? path.join(path.dirname(fileURLToPath(import.meta.url)), "wit");

/**
 * While the script starts, WASI's interfaces have another name: componentize-qjs
 * has its own WASI there, whose streams are not those of the HTTP that it lacks.
 * The name is as long as the right one, which `renamed` puts in its place. The
 * version is another patch than the runtime's own imports have, so that no name
 * occurs twice.
 */
const STARTING = { namespace: "wqsi", version: "0.2.11" };
const starting = (text) => text.replaceAll("wasi:", `${STARTING.namespace}:`).replaceAll("@0.2.12", `@${STARTING.version}`);

/** A component with the names that its imports are to have. */
export function renamed(component) {
  const text = component.toString("latin1");
  return Buffer.from(text.replace(/wqsi:(?=(?:io|clocks|http|random)\/)/g, "wasi:"), "latin1");
}

const ALWAYS = ["courier:plugin/log@2.0.0", "wasi:clocks/monotonic-clock@0.2.12", "wasi:io/poll@0.2.12", "wasi:random/random@0.2.12"];

/** The words without which no source can use a capability, and what it imports. */
const CAPABILITIES = {
  publish: { words: ["publish"], interfaces: ["courier:plugin/publish@2.0.0"] },
  state: { words: ["state"], interfaces: ["courier:plugin/state@2.0.0"] },
  cache: { words: ["cache"], interfaces: ["courier:plugin/cache@2.0.0"] },
  config: { words: ["config", "secret"], interfaces: ["courier:plugin/config@2.0.0"] },
  http: {
    words: ["fetch"],
    interfaces: ["wasi:http/types@0.2.12", "wasi:http/outgoing-handler@0.2.12", "wasi:io/streams@0.2.12"],
  },
};

export const isCapability = (name) => Object.hasOwn(CAPABILITIES, name);

/** The capabilities that one of the sources names. */
export function usedIn(sources) {
  const words = new Set(sources.flatMap((source) => source.split(/[^\p{L}\p{N}_$]+/u)));
  return Object.keys(CAPABILITIES).filter((name) => CAPABILITIES[name].words.some((word) => words.has(word)));
}

/** The imports of a world: the name that the SDK knows and the one while it starts. */
export function interfacesOf(uses) {
  const names = [...ALWAYS, ...uses.flatMap((name) => CAPABILITIES[name].interfaces)];
  return names.map((name) => ({ name: name.split("@")[0], module: starting(name) }));
}

/** Writes the world into a directory, with what it refers to. */
export async function witOf(dir, interfaces) {
  const imports = interfaces.map(({ module }) => `    import ${module};`).join("\n");
  const world = `package courier:javascript;
world handler {
    use courier:plugin/types@2.0.0.{message, attempt, failure};
${imports}
    export handle: func(message: message, attempt: attempt) -> result<_, failure>;
}
`;
  await writeFile(path.join(dir, "handler.wit"), world);
  for (const name of ["courier", "io", "clocks", "http", "random"]) {
    await mkdir(path.join(dir, "deps", name), { recursive: true });
    const text = await readFile(path.join(WIT, `${name}.wit`), "utf8");
    await writeFile(path.join(dir, "deps", name, `${name}.wit`), starting(text));
  }
}
