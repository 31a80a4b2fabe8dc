/** One event of a message's story. */
import type { ReactNode } from "react";
import type { Message, State } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { between } from "../../format/time";
import { useWords } from "../../i18n/context";
import { Glyph, type Shape } from "../../ui/Phase";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { Time } from "../../ui/Time";
import { Verdict } from "../../ui/Verdict";
import css from "./MessagePage.module.css";
import type { Event } from "./story";
import { words } from "./words";

interface FrameProps {
  mark: State | null;
  at?: string | null | undefined;
  ahead?: boolean;
  /** What stands in place of a state. */
  shape?: Shape;
  children: ReactNode;
}

function Frame({ mark, at, ahead = false, shape = "waits", children }: FrameProps) {
  return (
    <div className={css["event"]}>
      <span className={css["dot"]}>{mark ? <Mark state={mark} /> : <Glyph shape={shape} />}</span>
      <span className={css["when"]}>{at ? <Time at={at} show={ahead ? "ago" : "exact"} /> : ""}</span>
      <div className={css["what"]}>{children}</div>
    </div>
  );
}

/** The topic of Kafka that a message lies in: broadcasts have a companion of theirs. */
function logTopic({ topic, kind }: Message): string {
  return kind === "broadcast" ? `${topic}.broadcast` : topic;
}

export function Moment({ event, message }: { event: Event; message: Message }) {
  const say = useWords(words);
  switch (event.kind) {
    case "published":
      return (
        <Frame mark="COMMITTED" at={event.at}>
          <b>{say("published")}</b>{" "}
          {message.source && (
            <span className={css["note"]}>
              <Raw text={say("publishedBy", { source: message.source })} />
            </span>
          )}
        </Frame>
      );
    case "kafka":
      return (
        <Frame mark="COMMITTED">
          <b>{say("onKafka")}</b>{" "}
          <span className={css["note"]}>
            {say("onKafkaAt", {
              topic: logTopic(message),
              partition: String(message.partition),
              offset: String(message.offset),
            })}
          </span>
        </Frame>
      );
    case "due":
      return (
        <Frame mark={null} at={event.at} ahead>
          <b>{say("due")}</b>{" "}
          <span className={css["note"]}>
            {say("dueAt")} <Time at={event.at} show="exact" />
          </span>
        </Frame>
      );
    case "sendFail":
      return (
        <Frame mark="SEND_FAIL">
          <b>{say("sendFail")}</b> <span className={css["note"]}>{say(event.retrying ? "resends" : "resendsNot")}</span>
          {event.reason && <Reason text={event.reason} state="SEND_FAIL" />}
        </Frame>
      );
    case "received":
      return (
        <Frame mark="COMMITTED" at={event.at}>
          {say("received")}
        </Frame>
      );
    case "attempt":
      return <AttemptMoment event={event} />;
    case "duplicate":
      return (
        <Frame mark="HANDLED" at={event.at}>
          {say("duplicate")}
        </Frame>
      );
    case "givenUp":
      return (
        <Frame mark="HANDLE_FAIL" at={event.at}>
          <b>{say("givenUp")}</b>
          {event.reason && <Reason text={event.reason} state="HANDLE_FAIL" />}
        </Frame>
      );
    case "next":
      return (
        <Frame mark={null} at={event.at} ahead>
          <b>{say("next")}</b>{" "}
          <span className={css["note"]}>
            {say("nextIs", { n: event.number })} <Time at={event.at} show="exact" />
          </span>
        </Frame>
      );
    case "held":
      return (
        <Frame mark={null} shape="stopped">
          <b>{say("held")}</b> <span className={css["note"]}>{say("heldWhat")}</span>
        </Frame>
      );
    case "blocked":
      return <Frame mark={null}>{say("blocked")}</Frame>;
    case "waiting":
      return <Frame mark={null}>{say("waiting")}</Frame>;
    case "flight":
      return <Frame mark={null}>{say("firstFlight")}</Frame>;
    case "final":
      return (
        <Frame mark={null} shape="ended">
          <span className={css["note"]}>{say("final")}</span>
        </Frame>
      );
  }
}

function AttemptMoment({ event }: { event: Event & { kind: "attempt" } }) {
  const say = useWords(words);
  const { attempt, state } = event;
  return (
    <Frame mark={state} at={attempt.started_at}>
      <b>{say("attempt", { n: attempt.number })}</b>{" "}
      <span className={css["note"]}>
        <Verdict word={attempt.verdict} /> · {say("took", { time: between(attempt.started_at, attempt.finished_at) })}
        {attempt.version && (
          <>
            {" · "}
            <span title={attempt.version}>{say("version", { version: shortVersion(attempt.version) })}</span>
          </>
        )}
        {attempt.node && (
          <>
            {" · "}
            <span className={css["whole"]}>{attempt.node}</span>
          </>
        )}
        {!attempt.counted && ` · ${say("notCounted")}`}
      </span>
      {attempt.reason && <Reason text={attempt.reason} state={state} />}
      {attempt.log && (
        <details className={css["log"]}>
          <summary>{say("log")}</summary>
          <pre data-testid="log">
            <Raw text={attempt.log} />
          </pre>
        </details>
      )}
    </Frame>
  );
}

const TONES: Partial<Record<State, string>> = { SEND_FAIL: "--send-fail", PUSH_FAIL: "--push-fail" };

function Reason({ text, state }: { text: string; state: State }) {
  const colour = `var(${TONES[state] ?? "--handle-fail"})`;
  return (
    <div className={css["reason"]} style={{ borderLeftColor: colour }} data-testid="reason">
      <Raw text={text} />
    </div>
  );
}
