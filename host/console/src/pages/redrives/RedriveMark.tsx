/** How a redrive stands, by shape and word. */
import { useWords } from "../../i18n/context";
import { Phase } from "../../ui/Phase";
import type { RedriveState } from "./shapes";
import { words } from "./words";

const SHAPES = { PLANNED: "waits", RUNNING: "runs", PAUSED: "stopped", DONE: "done", CANCELLED: "ended" } as const;

export function RedriveMark({ state }: { state: RedriveState }) {
  const say = useWords(words);
  return <Phase shape={SHAPES[state]}>{say(state)}</Phase>;
}
