/** Where the filters of lists get their words and choices. */
import { useQuery } from "@tanstack/react-query";
import { get, path } from "../api/client";
import type { Group, List, State } from "../api/shapes";
import { useWords } from "../i18n/context";
import { dictionary } from "../i18n/words";
import type { Filter } from "../ui/Filters";
import { words as states } from "../ui/words";

const words = dictionary({
  en: {
    group: "Group",
    groupPhrase: "for group {value}",
    topic: "Topic",
    topicPhrase: "in topic {value}",
    state: "State",
    statePhrase: "that are {value}",
    type: "Type",
    typePhrase: "of type {value}",
    key: "Key",
    keyPhrase: "with key {value}",
    key_base64: "Key in Base64",
    key_base64Phrase: "with the binary key {value}",
    source: "Source",
    sourcePhrase: "from {value}",
    fingerprint: "Fingerprint",
    fingerprintPhrase: "failing like {value}",
    message_id: "Message id",
    message_idPhrase: "of message {value}",
    from: "Since",
    fromPhrase: "since {value}",
    to: "Until",
    toPhrase: "until {value}",
    ago: "{time} ago",
    timeHint: "2026-01-31T08:00:00Z, or 15m, 24h, 7d ago",
    by: "By",
    byPhrase: "by {value}",
    action: "Action",
    actionPhrase: "doing {value}",
    subject: "Subject",
    subjectPhrase: "to {value}",
    partitionPhrase: "in partition {value}",
    from_offsetPhrase: "from offset {value}",
    to_offsetPhrase: "before offset {value}",
    and: ", ",
    replayPhrase: "all records, handled or not",
    handled: "Outcome since",
    handledPhrase: "{value}",
    stillOpen: "still open",
    handledSince: "handled since",
    openOrHandled: "open or handled since",
  },
  zh: {
    group: "消费组",
    groupPhrase: "消费组为 {value}",
    topic: "主题",
    topicPhrase: "主题为 {value}",
    state: "状态",
    statePhrase: "状态为 {value}",
    type: "类型",
    typePhrase: "类型为 {value}",
    key: "键",
    keyPhrase: "键为 {value}",
    key_base64: "Base64 键",
    key_base64Phrase: "二进制键为 {value}",
    source: "来源",
    sourcePhrase: "来自 {value}",
    fingerprint: "指纹",
    fingerprintPhrase: "失败指纹为 {value}",
    message_id: "消息 ID",
    message_idPhrase: "消息为 {value}",
    from: "起始时间",
    fromPhrase: "自 {value} 起",
    to: "截止时间",
    toPhrase: "至 {value} 止",
    ago: "{time} 前",
    timeHint: "2026-01-31T08:00:00Z，或 15m、24h、7d 之前",
    by: "操作者",
    byPhrase: "操作者为 {value}",
    action: "操作",
    actionPhrase: "操作为 {value}",
    subject: "对象",
    subjectPhrase: "对象为 {value}",
    partitionPhrase: "分区为 {value}",
    from_offsetPhrase: "自偏移量 {value} 起",
    to_offsetPhrase: "至偏移量 {value} 前",
    and: "，",
    replayPhrase: "所有记录，无论是否已处理",
    handled: "后续结果",
    handledPhrase: "{value}",
    stillOpen: "仍未处理",
    handledSince: "之后已处理",
    openOrHandled: "未处理或之后已处理",
  },
});

/** The choice of a filter that takes both of its values. */
export const BOTH = "any";

type Name =
  | "group"
  | "topic"
  | "state"
  | "type"
  | "key"
  | "key_base64"
  | "source"
  | "fingerprint"
  | "message_id"
  | "handled"
  | "from"
  | "to"
  | "by"
  | "action"
  | "subject";

/** All groups; pages that only need names share one reading. */
export function useGroups() {
  return useQuery({
    queryKey: ["groups", "all"],
    queryFn: ({ signal }) => get<List<Group>>(path("groups"), { query: { limit: 1000 }, signal }),
    refetchInterval: 5_000,
  });
}

export interface Phrase {
  name: string;
  before: string;
  value: string;
  after: string;
}

const SAID = [
  "group",
  "state",
  "topic",
  "partition",
  "from_offset",
  "to_offset",
  "type",
  "key",
  "key_base64",
  "fingerprint",
  "message_id",
  "from",
  "to",
  "replay",
] as const;

/** What a redrive's filter means, phrase by phrase: `for group stock`, `since 08:00`; and what stands between. */
export function usePhrases(filter: Record<string, unknown>): { phrases: Phrase[]; between: string } {
  const say = useWords(words);
  const sayState = useWords(states);
  const phrases = SAID.flatMap((name) => {
    const given = filter[name];
    if (given === undefined || given === null || given === false) return [];
    const [before = "", after = ""] = say(`${name}Phrase`).split("{value}");
    const text = name === "replay" ? "" : String(given);
    return [{ name, before, value: name === "state" && isState(text) ? sayState(text) : text, after }];
  });
  return { phrases, between: say("and") };
}

function isState(text: string): text is State {
  return text in states.en && text === text.toUpperCase();
}

/** The filters of these names, with what this host has to choose from. */
export function useFilters(names: readonly Name[], states_: readonly State[] = []): Filter[] {
  const say = useWords(words);
  const sayState = useWords(states);
  const groups = useGroups().data?.items ?? [];
  const choices = (list: Iterable<string>) => [...new Set(list)].sort().map((value) => ({ value, label: value }));
  const times = ["15m", "1h", "24h", "7d"].map((value) => ({ value, label: say("ago", { time: value }) }));
  return names.map((name) => {
    const filter: Filter = { name, label: say(name), phrase: say(`${name}Phrase`) };
    if (name === "group") filter.options = choices(groups.map((group) => group.group));
    if (name === "topic")
      filter.options = choices(groups.flatMap((group) => group.bindings.flatMap((one) => one.topics)));
    if (name === "type")
      filter.options = choices(groups.flatMap((group) => group.bindings.flatMap((one) => one.types ?? [])));
    if (name === "state") {
      filter.options = states_.map((value) => ({ value, label: sayState(value) }));
      filter.only = true;
    }
    if (name === "handled") {
      filter.options = [
        { value: "false", label: say("stillOpen") },
        { value: "true", label: say("handledSince") },
        { value: BOTH, label: say("openOrHandled") },
      ];
      filter.only = true;
    }
    if (name === "from" || name === "to") {
      filter.options = times;
      filter.hint = say("timeHint");
    }
    return filter;
  });
}
