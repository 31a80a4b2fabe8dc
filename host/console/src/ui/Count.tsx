/** A count that may be unknown, which is not zero. */
import { count } from "../format/number";
import { useLanguage, useWords } from "../i18n/context";
import { words } from "./words";

export function Count({ value }: { value: number | null | undefined }) {
  const { language } = useLanguage();
  const say = useWords(words);
  if (value === null || value === undefined) return <span title={say("unknown")}>{say("unknown")}</span>;
  return <span>{count(value, language)}</span>;
}
