// Lets `node --import courier-sdk/register --test` run tests in TypeScript. Node
// from 22.18 on does that itself; an older one uses the package typescript.

import { register } from "node:module";

if (!process.features.typescript) register("./strip.mjs", import.meta.url);
