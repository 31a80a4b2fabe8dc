/** Search, and what is the same on every page. */
import * as Menu from "@radix-ui/react-dropdown-menu";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { useLive } from "../api/live";
import { useSession } from "../api/session";
import { useLanguage, useWords } from "../i18n/context";
import menu from "../ui/Menu.module.css";
import { Mark } from "../ui/State";
import { Help } from "./Help";
import css from "./Shell.module.css";
import { chooseTheme, theme } from "./theme";
import { words } from "./words";

export function TopBar({ onMenu, open }: { onMenu: () => void; open: boolean }) {
  const say = useWords(words);
  const navigate = useNavigate();
  const input = useRef<HTMLInputElement>(null);
  const [help, setHelp] = useState(false);
  const [sought, setSought] = useState("");
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const writing = (event.target as HTMLElement).closest("input, textarea, select, [contenteditable]");
      if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/") {
        event.preventDefault();
        input.current?.focus();
      }
      if (event.key === "?") setHelp(true);
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  const find = (event: React.FormEvent) => {
    event.preventDefault();
    if (sought.trim()) void navigate({ to: "/find", search: { q: sought.trim() } });
  };
  return (
    <div className={css["top"]}>
      <button
        type="button"
        className={`${menu["trigger"]} ${css["burger"]}`}
        aria-label={say("menu")}
        aria-expanded={open}
        aria-controls="nav"
        onClick={onMenu}
      >
        ☰
      </button>
      <form onSubmit={find} className={css["search"]} style={{ display: "contents" }}>
        <input
          ref={input}
          type="search"
          className={css["search"]}
          aria-label={say("search")}
          placeholder={`${say("searchHint")}   /`}
          value={sought}
          onChange={(event) => setSought(event.target.value)}
        />
      </form>
      <Tools onHelp={() => setHelp(true)} />
      <Help open={help} onClose={() => setHelp(false)} />
    </div>
  );
}

function Tools({ onHelp }: { onHelp: () => void }) {
  const say = useWords(words);
  const { connected } = useLive();
  const { language, choose } = useLanguage();
  const { me, signOut } = useSession();
  const [chosen, setChosen] = useState(theme);
  return (
    <div className={css["tools"]}>
      {connected && (
        <span className={css["live"]}>
          <Mark state="HANDLED" />
          <span>{say("live")}</span>
        </span>
      )}
      <button
        type="button"
        className={menu["trigger"]}
        aria-label={language === "en" ? `中文 · ${say("language")}` : `EN · ${say("language")}: English`}
        onClick={() => choose(language === "en" ? "zh" : "en")}
      >
        {language === "en" ? "中文" : "EN"}
      </button>
      <Menu.Root modal={false}>
        <Menu.Trigger className={menu["trigger"]} aria-label={say("theme")} title={say("theme")}>
          ◐
        </Menu.Trigger>
        <Menu.Portal>
          <Menu.Content className={menu["menu"]} align="end" sideOffset={4}>
            {(["auto", "light", "dark"] as const).map((name) => (
              <Menu.Item key={name} className={menu["item"]} onSelect={() => setChosen(chooseTheme(name))}>
                <span className={menu["tick"]}>{chosen === name ? "✓" : ""}</span>
                {say(name)}
              </Menu.Item>
            ))}
          </Menu.Content>
        </Menu.Portal>
      </Menu.Root>
      <button type="button" className={menu["trigger"]} aria-label={say("help")} title={say("help")} onClick={onHelp}>
        ?
      </button>
      {me.auth && (
        <Menu.Root modal={false}>
          <Menu.Trigger className={menu["trigger"]}>{me.name} ▾</Menu.Trigger>
          <Menu.Portal>
            <Menu.Content className={menu["menu"]} align="end" sideOffset={4}>
              <Menu.Label className={menu["item"]}>{say("signedIn", { name: me.name, role: me.role })}</Menu.Label>
              <Menu.Item className={menu["item"]} onSelect={() => void signOut()}>
                {say("signOut")}
              </Menu.Item>
            </Menu.Content>
          </Menu.Portal>
        </Menu.Root>
      )}
    </div>
  );
}
