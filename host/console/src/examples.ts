/**
 * The commands that empty pages show. They stand in a file of their own, since
 * the host's tests hand each of them to the command line's own parser.
 */
import commands from "./examples.json";

/** Where the command line asks unless it is told otherwise. */
const USUAL_SERVER = "http://127.0.0.1:7070";

/** A command that reaches the host of this page. */
export function command(name: keyof typeof commands, origin = location.origin): string {
  const server = origin === USUAL_SERVER || name === "outboxSchema" ? "" : ` --server ${origin}`;
  return `${commands[name]}${server}`;
}
