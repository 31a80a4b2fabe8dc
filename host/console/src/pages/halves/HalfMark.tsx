/** How a half message stands, by shape and word. */
import type { TransactionState } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Phase } from "../../ui/Phase";
import { words } from "./words";

const SHAPES = { PREPARED: "waits", COMMITTED: "done", ROLLED_BACK: "ended", ABANDONED: "stopped" } as const;

export function HalfMark({ state }: { state: TransactionState }) {
  const say = useWords(words);
  return <Phase shape={SHAPES[state]}>{say(state)}</Phase>;
}
