/** What needs a person now, each with the way to it. */
import { useNavigate } from "@tanstack/react-router";
import type { Attention } from "../../api/shapes";
import { shortId } from "../../format/id";
import { useWords } from "../../i18n/context";
import { useCause } from "../../ui/causes";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { Time } from "../../ui/Time";
import { fold } from "./fold";
import css from "./OverviewPage.module.css";
import { pageOf } from "./page-of";
import { words } from "./words";

const KINDS = {
  paused: "paused_kind",
  parked_full: "parked_full",
  held: "held_kind",
  lost_range: "lost_range",
  no_plugin: "no_plugin",
  circuit_open: "circuit_open",
  missing_topic: "missing_topic",
  degraded: "degraded",
  outbox_failing: "outbox_failing",
  transaction_unreachable: "transaction_unreachable",
  transaction_abandoned: "transaction_abandoned",
  broadcast_unheard: "broadcast_unheard",
  stopped: "stopped",
  retention_near: "retention_near",
  undelivered: "undelivered",
} as const;

export function Attentions({ items }: { items: Attention[] }) {
  const say = useWords(words);
  const sayCause = useCause();
  if (items.length === 0) {
    return (
      <p className={css["calm"]}>
        <Mark state="HANDLED" />
        {say("calm")}
      </p>
    );
  }
  return (
    <section className={css["needs"]} aria-label={say("needs")}>
      <h2>{say("needs")}</h2>
      <ul>
        {fold(items).map((item) => {
          const kind = KINDS[item.kind as keyof typeof KINDS];
          return (
            <li key={`${item.kind} ${item.subject}`}>
              <Mark state="PUSH_FAIL" />
              <b>
                <Subject
                  text={item.kind.startsWith("transaction_") ? shortId(item.subject) : item.subject}
                  page={pageOf(item.path)}
                />
              </b>
              <span className={css["detail"]}>
                {sayCause(item.cause?.code) ?? (kind ? say(kind) : item.kind)}: <Raw text={item.detail} />
                {item.more > 0 && <span className={css["more"]}> {say("andMore", { n: item.more })}</span>}
              </span>
              {item.since ? <Time at={item.since} show="ago" /> : <span />}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** The way to more of it; where this page says all there is, just its name. */
function Subject({ text, page }: { text: string; page: string }) {
  const navigate = useNavigate();
  if (page === "/") return <Raw text={text} />;
  const open = (event: React.MouseEvent) => {
    if (event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    void navigate({ href: page });
  };
  return (
    <a href={page} onClick={open}>
      <Raw text={text} />
    </a>
  );
}
