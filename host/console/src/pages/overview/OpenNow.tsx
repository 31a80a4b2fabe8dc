/** What is unfinished, each a way to the list of it. */
import { Link } from "@tanstack/react-router";
import type { Open, State } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Mark } from "../../ui/State";
import css from "./OverviewPage.module.css";
import { words } from "./words";

const ROWS = [
  ["retrying", "HANDLE_FAIL"],
  ["push_fail", "PUSH_FAIL"],
  ["waiting", "COMMITTED"],
  ["held", "HANDLE_FAIL"],
] as const satisfies readonly (readonly [keyof Open, State])[];

export function OpenNow({ open, lag }: { open: Open; lag: number | null }) {
  const say = useWords(words);
  return (
    <div className={css["open"]}>
      {ROWS.map(([name, state]) => (
        <Link key={name} to="/deliveries" search={{ state }}>
          <span className={css["word"]}>
            <Mark state={state} />
            {say(name)}
          </span>
          <span className={open[name] === 0 ? css["zero"] : ""}>
            <Count value={open[name]} />
          </span>
        </Link>
      ))}
      <div>
        <span className={css["word"]}>
          <Mark state="COMMITTED" />
          {say("lag")}
        </span>
        <span className={lag ? "" : css["zero"]}>
          <Count value={lag} />
        </span>
      </div>
    </div>
  );
}
