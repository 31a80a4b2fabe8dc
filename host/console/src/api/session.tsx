/** Who looks at the console, and what they may do. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useMemo } from "react";
import { change, get, path, rememberCsrf } from "./client";
import { Problem } from "./problem";
import type { Me, Role } from "./shapes";

const RANKS: readonly Role[] = ["viewer", "publisher", "operator", "admin"];

export interface Session {
  me: Me;
  /** Whether the role reaches so far. */
  may: (role: Role) => boolean;
  signOut: () => Promise<void>;
}

const Context = createContext<Session | null>(null);

async function whoAmI(): Promise<Me | null> {
  try {
    const me = await get<Me>(path("me"));
    rememberCsrf(me.csrf);
    return me;
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return null;
    throw error;
  }
}

/** Begins a session; the token itself is kept nowhere in the browser. */
export async function signIn(token: string): Promise<void> {
  await change("POST", path("session"), { body: { token } });
}

export function rank(role: Role): number {
  return RANKS.indexOf(role);
}

interface Props {
  children: ReactNode;
  /** Shown to somebody whom the host does not know. */
  stranger: ReactNode;
  /** Shown while it is not known who looks, with why when that failed. */
  unknown: (error: unknown, retry: () => void) => ReactNode;
}

export function SessionProvider({ children, stranger, unknown }: Props) {
  const cache = useQueryClient();
  const { data: me, error, refetch } = useQuery({ queryKey: ["me"], queryFn: whoAmI, staleTime: 60_000 });
  const session = useMemo<Session | null>(() => {
    if (!me) return null;
    const signOut = async () => {
      await change("DELETE", path("session"));
      rememberCsrf(null);
      cache.clear();
      await refetch();
    };
    return { me, may: (role) => rank(me.role) >= rank(role), signOut };
  }, [me, cache, refetch]);
  if (me === undefined) return unknown(error, () => void refetch());
  if (session === null) return stranger;
  return <Context.Provider value={session}>{children}</Context.Provider>;
}

export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error("useSession is called outside of a SessionProvider");
  return session;
}
