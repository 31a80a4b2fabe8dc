/** How far a redrive is: handled, failed and skipped of all that matched. */
import { count } from "../../format/number";
import { useLanguage, useWords } from "../../i18n/context";
import css from "./Redrives.module.css";
import type { Redrive } from "./shapes";
import { words } from "./words";

export function Progress({ of }: { of: Redrive }) {
  const say = useWords(words);
  const { language } = useLanguage();
  const share = (part: number) => (of.matched === 0 ? 0 : (part / of.matched) * 100);
  const parts: [name: string, part: number][] = [
    ["handled", of.handled],
    ["failed", of.failed],
    ["skipped", of.skipped],
  ];
  let from = 0;
  return (
    <span className={css["progress"]}>
      <svg
        className={css["track"]}
        viewBox="0 0 100 8"
        preserveAspectRatio="none"
        role="progressbar"
        aria-label={say("progress")}
        aria-valuemin={0}
        aria-valuemax={of.matched}
        aria-valuenow={of.done}
      >
        {parts.map(([name, part]) => {
          const x = from;
          from += share(part);
          return <rect key={name} className={css[name]} x={x} y={0} width={share(part)} height={8} />;
        })}
      </svg>
      <span className={css["numbers"]}>
        {count(of.done, language)} / {count(of.matched, language)}
      </span>
    </span>
  );
}
