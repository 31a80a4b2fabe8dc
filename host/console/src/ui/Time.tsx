/** A time, exact and how long ago. */
import { exact, full, relative } from "../format/time";
import { useLanguage, useWords } from "../i18n/context";
import { useNow } from "./clock";
import css from "./Time.module.css";
import { words } from "./words";

interface Props {
  at: string | null | undefined;
  /** Which of the two is shown. */
  show?: "both" | "exact" | "ago";
}

export function Time({ at, show = "both" }: Props) {
  const now = useNow();
  const { language } = useLanguage();
  const say = useWords(words);
  if (!at)
    return (
      <span className={css["ago"]} title={say("none")}>
        –
      </span>
    );
  return (
    <time className={css["time"]} dateTime={at} title={full(at)}>
      {show !== "ago" && exact(at, now, language)}
      {show === "both" && " "}
      {show !== "exact" && <span className={show === "both" ? css["ago"] : ""}>{relative(at, now, language)}</span>}
    </time>
  );
}
