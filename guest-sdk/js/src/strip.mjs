// The hook of register.mjs: takes the types out of what is loaded.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The typescript of the project that is tested, not of the SDK. */
function compiler() {
  const require = createRequire(path.join(process.cwd(), "package.json"));
  try {
    return require("typescript");
  } catch {
    throw new Error("tests in TypeScript need Node 22.18 or the package typescript: npm install --save-dev typescript");
  }
}

export async function load(url, context, next) {
  if (!/\.m?ts$/.test(url)) return next(url, context);
  const typescript = compiler();
  const source = await readFile(fileURLToPath(url), "utf8");
  const { ModuleKind, ScriptTarget, transpileModule } = typescript;
  const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022, inlineSourceMap: true };
  const { outputText } = transpileModule(source, { compilerOptions, fileName: fileURLToPath(url) });
  return { format: "module", source: outputText, shortCircuit: true };
}
