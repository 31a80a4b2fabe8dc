/** The way to every page. */
import { Link } from "@tanstack/react-router";
import { useWords } from "../i18n/context";
import css from "./Shell.module.css";
import { words } from "./words";

const PARTS = [
  {
    title: "messages",
    links: [
      ["/sent", "sent"],
      ["/deliveries", "deliveries"],
      ["/delayed", "delayed"],
      ["/half-messages", "halves"],
      ["/outboxes", "outboxes"],
    ],
  },
  {
    title: "changes",
    links: [
      ["/dead-letters", "dead"],
      ["/undelivered", "undelivered"],
      ["/redrives", "redrives"],
    ],
  },
  {
    title: "setup",
    links: [
      ["/groups", "groups"],
      ["/plugins", "plugins"],
      ["/nodes", "nodes"],
      ["/audit", "audit"],
    ],
  },
] as const;

export function Nav({ open }: { open: boolean }) {
  const say = useWords(words);
  return (
    <nav className={css["nav"]} data-open={open} id="nav" aria-label={say("menu")}>
      <Link to="/" className={css["brand"]}>
        <svg width="20" height="20" viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="7" fill="var(--accent)" />
          <path
            d="M7 11h10M5 16h8M7 21h10"
            stroke="var(--on-accent)"
            strokeOpacity=".6"
            strokeWidth="2"
            strokeLinecap="round"
          />
          <path d="M15 8l11 8-11 8 3-8z" fill="var(--on-accent)" />
        </svg>
        Courier
      </Link>
      <Link to="/" className={css["link"]} activeOptions={{ exact: true }}>
        {say("overview")}
      </Link>
      {PARTS.map((part) => (
        <div key={part.title}>
          <h2>{say(part.title)}</h2>
          {part.links.map(([to, name]) => (
            <Link key={to} to={to} className={css["link"]} activeOptions={{ includeSearch: false }}>
              {say(name)}
            </Link>
          ))}
        </div>
      ))}
    </nav>
  );
}
