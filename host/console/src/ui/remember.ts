/** What this browser remembers of how somebody likes the console. */
import { useCallback, useState, useSyncExternalStore } from "react";

/** A value kept in local storage under `courier.NAME`. */
export function useRemembered<T>(name: string, first: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => {
    try {
      const kept = localStorage.getItem(`courier.${name}`);
      return kept === null ? first : (JSON.parse(kept) as T);
    } catch {
      return first;
    }
  });
  const keep = useCallback(
    (next: T) => {
      localStorage.setItem(`courier.${name}`, JSON.stringify(next));
      setValue(next);
    },
    [name],
  );
  return [value, keep];
}

const NARROW = "(max-width: 760px)";

/** Whether there is no room for more than the columns that matter most. */
export function useNarrow(): boolean {
  return useSyncExternalStore(
    (tell) => {
      const query = window.matchMedia(NARROW);
      query.addEventListener("change", tell);
      return () => query.removeEventListener("change", tell);
    },
    () => window.matchMedia(NARROW).matches,
  );
}
