/** A word of the API as people say it; one that is new to this console as it came. */
import { useWords } from "../i18n/context";
import { words } from "./verdict-words";

type Word = keyof (typeof words)["en"];

export function Verdict({ word }: { word: string }) {
  const say = useWords(words);
  return <span title={word}>{word in words.en ? say(word as Word) : word}</span>;
}
