// The scenarios of tests/languages.rs in JavaScript: those of the handler in
// TypeScript, past a module in CommonJS as packages of npm bring it.
import { handler } from "courier-sdk";
import scenarios from "../typescript/handler.ts";
import { isAsked } from "./rule.cjs";

export default handler(scenarios.options, (event, ctx) => {
  if (!isAsked(event)) throw ctx.reject("nothing is asked");
  if (event.do !== "exception") return scenarios(event, ctx);
  throw new RangeError("no place for exception");
});
