/**
 * What the host tells by itself (`GET /v1/events`): totals each second, and the
 * paths of what changed, whose queries are then read again.
 */
import { useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import type { Counters } from "./shapes";

/** Changes come in bursts; queries are read again once for each burst. */
const GATHER_MS = 300;

export interface Live {
  connected: boolean;
  /** Since when there is no connection; null while there is one. */
  since: number | null;
  counters: Counters | null;
}

const Context = createContext<Live>({ connected: false, since: null, counters: null });

export function LiveProvider({ children }: { children: ReactNode }) {
  const cache = useQueryClient();
  const [since, setSince] = useState<number | null>(() => Date.now());
  const [counters, setCounters] = useState<Counters | null>(null);
  useEffect(() => {
    const source = new EventSource("/v1/events");
    const kinds = new Set<string>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const readAgain = () => {
      timer = undefined;
      for (const kind of kinds) void cache.invalidateQueries({ queryKey: [kind] });
      void cache.invalidateQueries({ queryKey: ["overview"] });
      kinds.clear();
    };
    source.addEventListener("open", () => setSince(null));
    source.addEventListener("error", () => setSince((before) => before ?? Date.now()));
    source.addEventListener("counters", (event: MessageEvent<string>) => {
      setCounters(JSON.parse(event.data) as Counters);
      setSince(null);
    });
    source.addEventListener("change", (event: MessageEvent<string>) => {
      // `/v1/groups/stock` concerns the queries whose key begins with `groups`.
      kinds.add(event.data.split("/")[2] ?? "");
      timer ??= setTimeout(readAgain, GATHER_MS);
    });
    return () => {
      clearTimeout(timer);
      source.close();
    };
  }, [cache]);
  const live = useMemo(() => ({ connected: since === null, since, counters }), [since, counters]);
  return <Context.Provider value={live}>{children}</Context.Provider>;
}

export function useLive(): Live {
  return useContext(Context);
}
