/** A binding's policy as phrases, for a list that reads as a sentence. */
import type { Binding } from "../../api/shapes";
import { bytes } from "../../format/number";
import type { Say } from "../../i18n/context";
import type { words } from "./words";

type Word = keyof (typeof words)["en"];

export function policy(binding: Binding, say: Say<Word>): string[] {
  const list: string[] = [];
  if (binding.types) list.push(say("onlyTypes", { types: binding.types.join(", ") }));
  list.push(say(ORDER[binding.ordering] ?? "orderKey"));
  list.push(say("atOnce", { n: binding.concurrency }));
  list.push(say(ISOLATION[binding.isolation] ?? "isoMessage"));
  list.push(say("timeout", { time: binding.timeout }), say("cpu", { time: binding.cpu }));
  list.push(say("memory", { size: bytes(binding.memory) }));
  list.push(say("log", { size: bytes(binding.log) }));
  if (binding.batch > 1) list.push(say("batch", { n: binding.batch }));
  list.push(say(START[binding.start] ?? "startAt", { time: binding.start }));
  if (binding.rate_limit) list.push(say("rateLimit", { n: binding.rate_limit }));
  const { retry } = binding;
  if (retry && retry.max_attempts > 1)
    list.push(say("retry", { n: retry.max_attempts, initial: retry.initial, max: retry.max }));
  else list.push(say("noRetry"));
  if (binding.circuit) list.push(say("circuit", { n: binding.circuit.failures, time: binding.circuit.open }));
  list.push(deadLetter(binding, say));
  if (binding.trace === "failures") list.push(say("traceFailures"));
  if (binding.dedupe) list.push(say("dedupe", { time: String(binding.dedupe) }));
  if (binding.grant.publish.length) list.push(say("mayPublish", { topics: binding.grant.publish.join(", ") }));
  if (binding.grant.http.length) list.push(say("mayHttp", { hosts: binding.grant.http.join(", ") }));
  if (binding.grant.state) list.push(say("mayState"));
  if (binding.grant.cache) list.push(say("mayCache"));
  return list;
}

function deadLetter(binding: Binding, say: Say<Word>): string {
  const { dead_letter: dead } = binding;
  if (dead === "hold") return say("deadHold");
  if (dead === null) return say("deadOff");
  return say("dead", { topic: dead });
}

const ORDER: Record<string, Word> = { key: "orderKey", partition: "orderPartition", none: "orderNone" };
const START: Record<string, Word> = { earliest: "startEarliest", latest: "startLatest" };
const ISOLATION: Record<string, Word> = { message: "isoMessage", batch: "isoBatch", instance: "isoInstance" };
