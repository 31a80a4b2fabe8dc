/** A page that has nothing to show, and why. */
import type { ReactNode } from "react";
import { words as errorWords, Problem } from "../api/problem";
import { useWords } from "../i18n/context";
import { Button } from "./Button";
import css from "./Notice.module.css";
import { Time } from "./Time";
import { words } from "./words";

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <section className={css["notice"]}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

export function Loading() {
  const say = useWords(words);
  return <div className={css["loading"]} role="progressbar" aria-label={say("loading")} />;
}

export function Broken({ error, again }: { error: unknown; again?: () => void }) {
  const say = useWords(words);
  return (
    <section className={css["notice"]} role="alert">
      <h2>{error instanceof Problem && error.title ? error.title : say("broken")}</h2>
      <p>{errorWords(error)}</p>
      {again && <Button onClick={again}>{say("again")}</Button>}
    </section>
  );
}

export function Strip({ children, alert = false }: { children: ReactNode; alert?: boolean }) {
  return (
    <div className={css["strip"]} role={alert ? "alert" : "note"}>
      {children}
    </div>
  );
}

/** Says since when what is shown is old; nothing while it is fresh. */
export function Stale({ at, error }: { at: number; error: unknown }) {
  const say = useWords(words);
  if (!error || at === 0) return null;
  const [before, after] = say("stale", { when: "\u0000", why: errorWords(error) }).split("\u0000");
  return (
    <Strip alert>
      <span>
        {before}
        <Time at={new Date(at).toISOString()} />
        {after}
      </span>
    </Strip>
  );
}
