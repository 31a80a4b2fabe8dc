/** The story from top to bottom: what happened, then each group's part in it. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Delivery, Message } from "../../api/shapes";
import { duration } from "../../format/duration";
import { millis } from "../../format/time";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { useNow } from "../../ui/clock";
import { Glyph } from "../../ui/Phase";
import { Raw } from "../../ui/Raw";
import { State } from "../../ui/State";
import { GiveUpDialog } from "../deliveries/GiveUpDialog";
import { RetryDialog } from "../deliveries/RetryDialog";
import { useGroups } from "../shared";
import css from "./MessagePage.module.css";
import { Moment } from "./Moment";
import { chapter, type Event, end, height, opening, start } from "./story";
import { words } from "./words";

export function Timeline({ message }: { message: Message }) {
  const say = useWords(words);
  const deliveries = message.deliveries ?? [];
  const published = millis(message.time);
  return (
    <>
      <Line events={opening(message)} message={message} before={null} />
      {message.partition !== null && deliveries.length === 0 && (
        <p className={css["note"]}>{message.warning ? <Raw text={message.warning} /> : say("noDelivery")}</p>
      )}
      {deliveries.map((delivery) => (
        <Chapter key={`${delivery.id}`} delivery={delivery} message={message} published={published} />
      ))}
    </>
  );
}

interface ChapterProps {
  delivery: Delivery;
  message: Message;
  published: number;
}

function Chapter({ delivery, message, published }: ChapterProps) {
  const say = useWords(words);
  const whyNot = useWhyNot();
  const [asking, ask] = useState<"retry" | "giveUp" | null>(null);
  const stopped = useStopped(delivery.group);
  const unfinished = delivery.settled_at === null && delivery.state !== "HANDLED";
  const failed = delivery.state === "HANDLE_FAIL" || delivery.state === "PUSH_FAIL";
  return (
    <article className={css["delivery"]} data-group={delivery.group}>
      <div className={css["group"]}>
        <h3>
          <Link to="/groups/$group" params={{ group: delivery.group }}>
            {delivery.group}
          </Link>
        </h3>
        <State state={delivery.state} retrying={delivery.next_attempt_at !== null} />
        {delivery.node && <span className={css["note"]}>{delivery.node}</span>}
        {delivery.fingerprint && failed && (
          <Link
            to="/deliveries"
            search={{ group: delivery.group, state: delivery.state, fingerprint: delivery.fingerprint }}
          >
            {say("sameFailures")}
          </Link>
        )}
        {delivery.received_at && (
          <Button because={whyNot("operator")} onClick={() => ask("retry")}>
            {say("retry")}
          </Button>
        )}
        {delivery.received_at && delivery.settled_at === null && (
          <Button because={whyNot("operator")} onClick={() => ask("giveUp")}>
            {say("giveUp")}
          </Button>
        )}
      </div>
      {unfinished && stopped && (
        <p className={css["stands"]}>
          <Glyph shape="stopped" />
          <span>
            {say("stands")}: <Raw text={stopped} />
          </span>
        </p>
      )}
      <Line events={chapter(delivery)} message={message} before={published} />
      <RetryDialog deliveries={[delivery]} open={asking === "retry"} onClose={() => ask(null)} />
      <GiveUpDialog delivery={delivery} open={asking === "giveUp"} onClose={() => ask(null)} />
    </article>
  );
}

/** Why a group takes nothing now; null while it does. */
function useStopped(name: string): string | null {
  const group = useGroups().data?.items.find((one) => one.group === name);
  const binding = group?.bindings.find((one) => one.paused || one.blocked);
  if (!group || !(group.state !== "running" || binding)) return null;
  return group.why ?? binding?.why ?? binding?.blocked ?? "–";
}

interface LineProps {
  events: Event[];
  message: Message;
  /** When what stands above ended; null at the beginning. */
  before: number | null;
}

function Line({ events, message, before }: LineProps) {
  const now = useNow();
  let last = before;
  return (
    <ol className={css["line"]}>
      {events.map((event, at) => {
        const from = last;
        const begin = start(event);
        last = end(event) ?? last;
        const gap = from === null || begin === null ? null : begin - from;
        const ahead = event.kind === "next" || event.kind === "due";
        return (
          <li key={at}>
            {gap !== null && <Gap ms={gap} ahead={ahead && (begin ?? 0) > now} />}
            {gap === null && at > 0 && <Gap ms={null} ahead={ahead} />}
            <Moment event={event} message={message} />
          </li>
        );
      })}
    </ol>
  );
}

function Gap({ ms, ahead }: { ms: number | null; ahead: boolean }) {
  const say = useWords(words);
  return (
    <div className={`${css["gap"]} ${ahead ? css["ahead"] : ""}`} style={{ height: height(ms ?? 0) }}>
      {ms !== null && ms >= 1 && say("later", { time: duration(ms) })}
    </div>
  );
}
