/** What needs a person now, each with the way to it. */
import { useNavigate } from "@tanstack/react-router";
import type { Attention } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { Time } from "../../ui/Time";
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
  transaction_abandoned: "transaction_abandoned",
  broadcast_unheard: "broadcast_unheard",
} as const;

export function Attentions({ items }: { items: Attention[] }) {
  const say = useWords(words);
  const navigate = useNavigate();
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
        {items.map((item) => {
          const kind = KINDS[item.kind as keyof typeof KINDS];
          const page = pageOf(item.path);
          return (
            <li key={`${item.kind} ${item.subject}`}>
              <Mark state="PUSH_FAIL" />
              <b>
                <a
                  href={page}
                  onClick={(event) => {
                    if (event.metaKey || event.ctrlKey) return;
                    event.preventDefault();
                    void navigate({ href: page });
                  }}
                >
                  <Raw text={item.subject} />
                </a>
              </b>
              <span className={css["detail"]}>
                {kind ? say(kind) : item.kind}: <Raw text={item.detail} />
              </span>
              {item.since ? <Time at={item.since} show="ago" /> : <span />}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
