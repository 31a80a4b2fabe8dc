/** What a message says of itself. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { keyFilter, keyText } from "../../api/key";
import type { Message } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Key } from "../../ui/Key";
import { Facts } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { Time } from "../../ui/Time";
import { Verdict } from "../../ui/Verdict";
import css from "./MessagePage.module.css";
import { words } from "./words";

type Headers = Record<string, unknown>;

/** A header's value: text, `{base64}`, null, or an array of those when the name repeats. */
export function headerText(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === null) return "null";
  if (Array.isArray(value)) return value.map(headerText).join(", ");
  return `base64:${(value as { base64?: string }).base64 ?? ""}`;
}

/** The trace id of a W3C traceparent. */
export function traceId(headers: Headers | null): string | null {
  const parent = headers?.["traceparent"];
  return typeof parent === "string" ? (/^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(parent)?.[1] ?? null) : null;
}

/** Another message of the id, or a place where one is. */
interface Elsewhere {
  topic: string;
  partition?: number | null;
  offset?: number | null;
  source?: string | null;
}

/** Its topic, where on it, and from whom. */
function elsewhere({ topic, partition, offset, source }: Elsewhere): string {
  const where = partition == null ? topic : `${topic} ${partition}:${offset}`;
  return source ? `${where} (${source})` : where;
}

export function Head({ message }: { message: Message }) {
  const say = useWords(words);
  const headers = message.headers as Headers | null;
  const trace = traceId(headers);
  const key: ReactNode =
    keyText(message) === null ? (
      <Key of={message} />
    ) : (
      <Link to="/deliveries" search={keyFilter(message)}>
        <Key of={message} />
      </Link>
    );
  const place =
    message.partition === null || message.offset === null
      ? say("notYet")
      : say("placeAt", { partition: message.partition, offset: message.offset });
  return (
    <div className={css["head"]}>
      <Facts
        of={[
          [say("key"), key],
          [say("type"), <Raw key="type" text={message.type ?? "–"} />],
          [say("topic"), message.topic],
          [say("source"), <Raw key="source" text={message.source ?? "–"} />],
        ]}
      />
      <Facts
        of={[
          [say("kind"), <Verdict key="kind" word={message.kind} />],
          [say("sent"), <Time key="time" at={message.time} />],
          [say("place"), place],
          [say("trace"), trace ? <code key="trace">{trace}</code> : "–"],
        ]}
      />
      {headers && Object.keys(headers).length > 0 && (
        <details className={css["headers"]}>
          <summary>
            {say("headers")} ({Object.keys(headers).length})
          </summary>
          <dl>
            {Object.entries(headers).map(([name, value]) => (
              <div key={name}>
                <dt>
                  <Raw text={name} />
                </dt>
                <dd>
                  <Raw text={headerText(value).slice(0, 4_000)} />
                </dd>
              </div>
            ))}
          </dl>
        </details>
      )}
      {message.also && message.also.length > 0 && (
        <p>
          {say("also")} {message.also.map(elsewhere).join(", ")}
        </p>
      )}
    </div>
  );
}
