/** A record's key. */
import { type Keyed, keyText } from "../api/key";
import { useWords } from "../i18n/context";
import { Raw } from "./Raw";
import { words } from "./words";

export function Key({ of }: { of: Keyed }) {
  const say = useWords(words);
  const text = keyText(of);
  return text === null ? <span title={say("noKey")}>–</span> : <Raw text={text.slice(0, 400)} />;
}
