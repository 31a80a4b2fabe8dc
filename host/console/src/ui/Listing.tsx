/** The frame of a list: loading, broken, stale, cut short, empty; else what shows its rows. */
import type { ReactNode } from "react";
import type { Listed } from "../api/list";
import { useWords } from "../i18n/context";
import { Broken, Loading, Stale, Strip } from "./Notice";
import { words } from "./words";

interface Props<T> {
  list: Listed<T>;
  /** What stands there when nothing is in it. */
  empty: ReactNode;
  children: ReactNode;
}

export function Listing<T>({ list, empty, children }: Props<T>) {
  const say = useWords(words);
  if (list.loading) return <Loading />;
  if (list.error && list.items.length === 0) return <Broken error={list.error} again={list.again} />;
  return (
    <>
      <Stale at={list.at} error={list.error} />
      {list.truncated && <Strip>{say("truncated")}</Strip>}
      {list.notRecorded.length > 0 && <Strip>{say("notRecorded", { groups: list.notRecorded.join(", ") })}</Strip>}
      {list.items.length === 0 ? empty : children}
    </>
  );
}
