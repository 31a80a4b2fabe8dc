/** What was done, in words; one that is new to this console as it came. */
import { type Say, useWords } from "../../i18n/context";
import { Raw } from "../../ui/Raw";
import { words } from "./action-words";

type Word = keyof (typeof words)["en"];

export function Action({ name }: { name: string }) {
  const say = useWords(words);
  return name in words.en ? <span title={name}>{say(name as Word)}</span> : <Raw text={name} />;
}

/** Everything that can be looked for. */
export function choices(say: Say<Word>): { value: string; label: string }[] {
  return (Object.keys(words.en) as Word[]).map((value) => ({ value, label: say(value) }));
}
