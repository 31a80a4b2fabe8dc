/** What the URL says after its `?`, as the text that filters are made of. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";

export type Values = Record<string, string | undefined>;

/** The named values of the URL, and how to change them. */
export function useValues(names: readonly string[]): [Values, (values: Values) => void] {
  const search = useSearch({ strict: false }) as Record<string, unknown>;
  const navigate = useNavigate();
  const key = names.join(" ");
  const values = useMemo<Values>(
    () =>
      Object.fromEntries(
        key.split(" ").flatMap((name) => {
          const value = search[name];
          return value === undefined || value === null || value === "" ? [] : [[name, String(value)]];
        }),
      ),
    [search, key],
  );
  const change = useCallback(
    (next: Values) => {
      const kept = Object.fromEntries(Object.entries(next).filter(([, value]) => value !== undefined && value !== ""));
      void navigate({ to: ".", search: kept as never, replace: true });
    },
    [navigate],
  );
  return [values, change];
}
