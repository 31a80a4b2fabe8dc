/** What was just changed, and the way to its row in the audit log. */
import { Link } from "@tanstack/react-router";
import { useEffect, useSyncExternalStore } from "react";
import { useWords } from "../i18n/context";
import css from "./Told.module.css";
import { words } from "./words";

export interface Change {
  /** What was done, as the dialog's button said it. */
  what: string;
  /** How the audit log finds it. */
  audit: { action: string; subject?: string };
}

const SHOWN_MS = 8_000;
const listeners = new Set<() => void>();
let current: Change | null = null;

export function tell(change: Change | null): void {
  current = change;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function Told() {
  const say = useWords(words);
  const change = useSyncExternalStore(subscribe, () => current);
  useEffect(() => {
    if (!change) return;
    const timer = setTimeout(() => tell(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [change]);
  return (
    <div role="status" className={change ? css["told"] : ""}>
      {change && (
        <>
          {say("done", { what: change.what })}{" "}
          <Link to="/audit" search={change.audit}>
            {say("auditRow")}
          </Link>
        </>
      )}
    </div>
  );
}
