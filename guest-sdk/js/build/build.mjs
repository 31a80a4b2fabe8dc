// Builds a handler into a component: `node build.mjs FILE OUTPUT NAME`.
//
// esbuild bundles the handler with the SDK, takes the types out and turns async
// functions into generators (see src/promise.js); componentize-qjs joins the
// script to the QuickJS runtime and starts it once. The world has the imports
// that the handler uses and no more.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { builtinModules } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { componentize } from "componentize-qjs";
import esbuild from "esbuild";

import { decodeMappings } from "./mappings.mjs";
import { interfacesOf, isCapability, renamed, usedIn, witOf } from "./uses.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const SDK = path.join(HERE, "..", "src");
/** The custom section in which a component says what it wants. */
const ABOUT_SECTION = "courier:handler";
const ENTRY = `import { component } from "courier-sdk/component";
import * as module from "courier:handler";
export const handle = component(module);
`;

/** What is wrong with the handler, in words for its author. */
class Refused extends Error {}

/** Where imports lead: the SDK, the imports of the world, the handler. */
function resolver(file, hostText) {
  return {
    name: "courier",
    setup(build) {
      build.onResolve({ filter: /^courier-sdk(\/component)?$/ }, ({ path: name }) => ({
        path: path.join(SDK, name === "courier-sdk" ? "index.js" : "component.js"),
      }));
      build.onResolve({ filter: /^courier-sdk\// }, ({ path: name }) =>
        name === "courier-sdk/component" ? undefined : { errors: [{ text: `"${name}" is for tests: a handler imports "courier-sdk"` }] });
      build.onResolve({ filter: /^courier:handler$/ }, () => ({ path: file }));
      build.onResolve({ filter: /\/host\.js$/ }, ({ importer }) =>
        path.dirname(importer) === SDK ? { path: "host.js", namespace: "host" } : undefined);
      build.onLoad({ filter: /.*/, namespace: "host" }, () => ({ contents: hostText, loader: "js" }));
      build.onResolve({ filter: /^(courier:plugin|wqsi:)/ }, ({ path: name }) => ({ path: name, external: true }));
      build.onResolve({ filter: /.*/ }, ({ path: name }) => {
        const plain = name.replace(/^node:/, "");
        const isNodes = name.startsWith("node:") || builtinModules.includes(plain);
        const text = `a handler has no "${name}" of Node: it runs in a sandbox without files, sockets and processes`;
        return isNodes ? { errors: [{ text }] } : undefined;
      });
    },
  };
}

const ASYNC_AS_GENERATORS = { "async-await": false, "async-generator": false, "for-await": false };

async function bundle(file, entry, hostText, more = {}) {
  const root = path.dirname(file);
  try {
    return await esbuild.build({
      stdin: { contents: entry, resolveDir: SDK, sourcefile: "entry.js", loader: "js" },
      absWorkingDir: root,
      plugins: [resolver(file, hostText)],
      bundle: true,
      write: false,
      outfile: path.join(root, "handler.mjs"),
      format: "esm",
      platform: "neutral",
      mainFields: ["module", "main"],
      conditions: ["import", "worker", "default"],
      target: "es2022",
      charset: "utf8",
      sourcemap: "external",
      metafile: true,
      logLevel: "silent",
      legalComments: "none",
      ...more,
    });
  } catch (error) {
    if (!error.errors) throw error;
    const lines = error.errors.map(({ text, location }) =>
      location ? `${location.file}:${location.line}:${location.column + 1}: ${text}` : text);
    throw new Refused(lines.join("\n"));
  }
}

/** What the handler declares: its module is loaded here, without being called. */
async function declared(file) {
  const dir = await mkdtemp(path.join(tmpdir(), "courier-"));
  try {
    const entry = "import * as module from \"courier:handler\";\nexport default module.default?.options;\n";
    const { outputFiles } = await bundle(file, entry, "export const host = {};");
    const script = path.join(dir, "handler.mjs");
    await writeFile(script, outputFiles.find(({ path: name }) => name.endsWith(".mjs")).contents);
    const { default: options } = await import(pathToFileURL(script));
    if (typeof options === "object") return options;
  } finally {
    await rm(dir, { recursive: true });
  }
  throw new Refused(`${path.basename(file)} exports no handler: write \`export default handler({ group, topics }, (event, ctx) => { .. })\``);
}

/** The module through which the SDK reaches what the component imports. */
function hostModule(interfaces) {
  const imports = interfaces.map(({ module }, index) => `import i${index} from "${module}";`);
  const members = interfaces.map(({ name }, index) => `  "${name}": i${index},`);
  return `${imports.join("\n")}\nexport const host = {\n${members.join("\n")}\n};\n`;
}

/** Where the script's lines come from, for those of the handler's own files. */
function placesOf(map) {
  const own = (source) => source !== "entry.js" && !source.startsWith("host:") && !path.resolve(map.root, source).startsWith(SDK + path.sep);
  const sources = [];
  const rows = {};
  decodeMappings(map.mappings).forEach((segments, index) => {
    const row = segments.flatMap(([column, source, line, sourceColumn]) => {
      const name = map.sources[source];
      if (!own(name)) return [];
      if (!sources.includes(name)) sources.push(name);
      return [column, sources.indexOf(name), line + 1, sourceColumn + 1];
    });
    if (row.length > 0) rows[index + 1] = row;
  });
  return { sources, rows };
}

/** A component with a custom section behind its end. */
function withSection(component, name, data) {
  const leb = (value) => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)]);
  const text = Buffer.from(name);
  const content = Buffer.concat([Buffer.from(leb(text.length)), text, Buffer.from(data)]);
  return Buffer.concat([component, Buffer.from([0, ...leb(content.length)]), content]);
}

async function build(input, output, name) {
  const file = path.resolve(input);
  const options = await declared(file);
  const unknown = (options.uses ?? []).find((use) => use !== "log" && !isCapability(use));
  if (unknown) throw new Refused(`uses: ["${unknown}"] is not known: write some of publish, state, cache, config, http`);

  // A capability that none of the sources names cannot be used.
  let uses = options.uses?.filter(isCapability);
  if (!uses) {
    const { metafile } = await bundle(file, ENTRY, hostModule([]));
    const inputs = Object.keys(metafile.inputs).map((source) => path.resolve(path.dirname(file), source.replace(/^[a-z]+:/, "")));
    const own = inputs.filter((source) => !source.startsWith(SDK + path.sep) && path.basename(source) !== "entry.js" && path.basename(source) !== "host.js");
    uses = usedIn(await Promise.all(own.map((source) => readFile(source, "utf8"))));
  }
  const interfaces = interfacesOf(uses);
  const { outputFiles } = await bundle(file, ENTRY, hostModule(interfaces), { supported: ASYNC_AS_GENERATORS });
  const text = (ending) => outputFiles.find(({ path: out }) => out.endsWith(ending)).text;
  const places = placesOf({ ...JSON.parse(text(".map")), root: path.dirname(file) });
  const script = `${text(".mjs")}\nglobalThis[Symbol.for("courier.places")] = ${JSON.stringify(places)};\n`;

  const wit = await mkdtemp(path.join(tmpdir(), "courier-"));
  try {
    await witOf(wit, interfaces);
    const { component } = await componentize({ witPath: wit, jsSource: script, world: "handler", sync: true, optSize: true });
    const { group = "", topics = [], types = [], publishes = [], http = [] } = options;
    const language = /\.m?ts$/.test(file) ? "typescript" : "javascript";
    const about = { name, world: "handler", group, topics, types, publishes, http, uses, language };
    await writeFile(output, withSection(renamed(component), ABOUT_SECTION, JSON.stringify(about)));
  } catch (error) {
    throw new Refused(`the handler's module cannot be started: ${String(error.message ?? error).trim()}`);
  } finally {
    await rm(wit, { recursive: true });
  }
}

const [input, output, name] = process.argv.slice(2);
if (!name) {
  console.error("usage: node build.mjs FILE OUTPUT NAME");
  process.exit(2);
}
try {
  await build(input, output, name);
} catch (error) {
  console.error(error instanceof Refused ? error.message : error.stack);
  process.exit(1);
}
