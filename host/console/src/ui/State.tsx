/** A state by its colour, its shape and its word. */
import type { State as Name } from "../api/shapes";
import { useWords } from "../i18n/context";
import css from "./State.module.css";
import { words } from "./words";

const NAMES: readonly string[] = ["SEND_FAIL", "COMMITTED", "PUSH_FAIL", "HANDLE_FAIL", "HANDLED"];

const SHAPES: Record<Name, React.ReactNode> = {
  SEND_FAIL: <path d="M6 .5 11.5 6 6 11.5.5 6z" fill="currentColor" />,
  COMMITTED: <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.8" />,
  PUSH_FAIL: <path d="M6 1 11.5 11H.5z" fill="currentColor" />,
  HANDLE_FAIL: <path d="M2 2l8 8M10 2l-8 8" stroke="currentColor" strokeWidth="2.4" strokeLinecap="round" />,
  HANDLED: <path d="M1.5 6.5l3 3 6-7" fill="none" stroke="currentColor" strokeWidth="2.2" strokeLinecap="round" />,
};

export function Mark({ state }: { state: Name }) {
  return (
    <svg
      className={`${css["mark"]} ${css[state]}`}
      style={{ color: "var(--tone)" }}
      viewBox="0 0 12 12"
      aria-hidden="true"
    >
      {SHAPES[state]}
    </svg>
  );
}

interface Props {
  state: string;
  /** Whether another attempt comes by itself. */
  retrying?: boolean;
}

export function State({ state, retrying = false }: Props) {
  const say = useWords(words);
  if (!NAMES.includes(state)) return <span>{state}</span>;
  const name = state as Name;
  return (
    <span className={`${css["state"]} ${css[name]}`} title={state} data-state={state}>
      <Mark state={name} />
      {say(name)}
      {retrying && <span className={css["more"]}>· {say("retrying")}</span>}
    </span>
  );
}
