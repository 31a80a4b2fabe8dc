/** What stands around every page. */
import { Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useLive } from "../api/live";
import { duration } from "../format/duration";
import { useWords } from "../i18n/context";
import { useNow } from "../ui/clock";
import { Told } from "../ui/Told";
import { Nav } from "./Nav";
import css from "./Shell.module.css";
import { TopBar } from "./TopBar";
import { words } from "./words";

/** A connection that comes back at once is not worth a word. */
const PATIENCE_MS = 3_000;

export function Shell() {
  const say = useWords(words);
  const [open, setOpen] = useState(false);
  const path = useRouterState({ select: (state) => state.location.pathname });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another page closes the menu
  useEffect(() => setOpen(false), [path]);
  return (
    <>
      <a className={css["skip"]} href="#main">
        {say("skip")}
      </a>
      <div className={css["shell"]}>
        <Nav open={open} />
        <div className={css["main"]}>
          <TopBar onMenu={() => setOpen(!open)} open={open} />
          <Lost />
          <Outlet />
          <Told />
        </div>
      </div>
    </>
  );
}

function Lost() {
  const say = useWords(words);
  const { since } = useLive();
  const now = useNow();
  if (since === null || now - since < PATIENCE_MS) return null;
  return (
    <div className={css["lost"]} role="alert">
      {say("offline", { time: duration(Math.round((now - since) / 1_000) * 1_000) })}
    </div>
  );
}
