/** A binding's policy as phrases, for a list that reads as a sentence. */
import type { Binding } from "../../api/shapes";
import type { Say } from "../../i18n/context";
import type { words } from "./words";

type Word = keyof (typeof words)["en"];

export function policy(binding: Binding, say: Say<Word>): string[] {
  const list: string[] = [say("reads", { topics: binding.topics.join(", "), plugin: binding.plugin })];
  if (binding.types) list.push(say("onlyTypes", { types: binding.types.join(", ") }));
  list.push(say(ORDER[binding.ordering] ?? "orderKey"));
  list.push(say("atOnce", { n: binding.concurrency }));
  list.push(say(ISOLATION[binding.isolation] ?? "isoMessage"));
  if (binding.timeout) list.push(say("timeout", { time: String(binding.timeout) }));
  if (binding.cpu) list.push(say("cpu", { time: String(binding.cpu) }));
  if (binding.memory) list.push(say("memory", { size: String(binding.memory) }));
  if (binding.rate_limit) list.push(say("rateLimit", { n: binding.rate_limit }));
  const { retry } = binding;
  if (retry && retry.max_attempts > 1) list.push(say("retry", { n: retry.max_attempts, initial: String(retry.initial) }));
  else if (retry !== undefined) list.push(say("noRetry"));
  const dead = deadLetter(binding, say);
  if (dead) list.push(dead);
  if (binding.dedupe) list.push(say("dedupe", { time: String(binding.dedupe) }));
  if (binding.grant?.publish?.length) list.push(say("mayPublish", { topics: binding.grant.publish.join(", ") }));
  if (binding.grant?.state) list.push(say("mayState"));
  if (binding.grant?.cache) list.push(say("mayCache"));
  return list;
}

function deadLetter(binding: Binding, say: Say<Word>): string | null {
  const { dead_letter: dead } = binding;
  if (dead === undefined) return null;
  if (dead === "hold") return say("deadHold");
  if (dead === null || dead === false || dead === "false") return say("deadOff");
  const own = binding.topics.map((topic) => `dlq.${topic}.${binding.group}`).join(", ");
  return say("dead", { topic: dead === true || dead === "true" ? own : dead });
}

const ORDER: Record<string, Word> = { key: "orderKey", partition: "orderPartition", none: "orderNone" };
const ISOLATION: Record<string, Word> = { message: "isoMessage", batch: "isoBatch", instance: "isoInstance" };
