/**
 * Where something stands that is no message or delivery: a redrive, a half
 * message, an outbox. By a shape and its word; what stopped has a colour, the
 * rest is neutral, since colours belong to the five states.
 */
import type { ReactNode } from "react";
import css from "./Phase.module.css";

export type Shape = "waits" | "runs" | "done" | "ended" | "stopped";

const SHAPES: Record<Shape, ReactNode> = {
  waits: <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.6" strokeDasharray="2.4 2" />,
  runs: <path d="M2.5 1.5 10 6l-7.5 4.5z" fill="currentColor" />,
  done: <path d="M1.5 6.5l3 3 6-7" fill="none" stroke="currentColor" strokeWidth="2" strokeLinecap="round" />,
  ended: <path d="M2 6h8" stroke="currentColor" strokeWidth="2" strokeLinecap="round" />,
  stopped: <path d="M6 1 11.5 11H.5z" fill="currentColor" />,
};

export function Glyph({ shape }: { shape: Shape }) {
  return (
    <svg
      className={`${css["glyph"]} ${shape === "stopped" ? css["stopped"] : ""}`}
      viewBox="0 0 12 12"
      aria-hidden="true"
    >
      {SHAPES[shape]}
    </svg>
  );
}

export function Phase({ shape, children }: { shape: Shape; children: ReactNode }) {
  return (
    <span className={css["phase"]}>
      <Glyph shape={shape} />
      {children}
    </span>
  );
}
