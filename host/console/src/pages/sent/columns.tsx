/** The columns of messages. */
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Message } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { shortId } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
import { Key } from "../../ui/Key";
import { Raw } from "../../ui/Raw";
import type { Column } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { MessageState } from "../message/MessageState";
import { words } from "./words";

const REASON = 300;

export function useColumns(): Column<Message>[] {
  const say = useWords(words);
  return useMemo(
    () => [
      {
        id: "state",
        name: say("state"),
        width: "minmax(118px, 1fr)",
        narrow: true,
        cell: (row) => <MessageState message={row} />,
      },
      { id: "key", name: say("key"), width: "minmax(104px, 1.1fr)", narrow: true, cell: (row) => <Key of={row} /> },
      { id: "type", name: say("type"), width: "minmax(104px, 1.1fr)", cell: (row) => <Raw text={row.type ?? "–"} /> },
      { id: "topic", name: say("topic"), width: "minmax(64px, 0.8fr)", cell: (row) => <Raw text={row.topic} /> },
      {
        id: "source",
        name: say("source"),
        width: "minmax(84px, 0.8fr)",
        cell: (row) => <Raw text={row.source ?? "–"} />,
      },
      {
        id: "reason",
        name: say("reason"),
        width: "minmax(90px, 1.6fr)",
        cell: (row) => row.reason && <Raw text={row.reason.slice(0, REASON)} />,
      },
      {
        id: "place",
        name: say("place"),
        width: "88px",
        right: true,
        cell: (row) =>
          row.partition === null ? (
            row.deliver_at && row.state === "COMMITTED" ? (
              <>
                {say("due")} <Time at={row.deliver_at} show="ago" />
              </>
            ) : (
              "–"
            )
          ) : (
            `${row.partition}:${row.offset}`
          ),
      },
      {
        id: "time",
        name: say("time"),
        width: "64px",
        narrow: true,
        right: true,
        cell: (row) => <Time at={row.time} show="ago" />,
      },
      {
        id: "id",
        name: say("id"),
        width: "122px",
        cell: (row) => (
          <Id id={row.id}>
            <Link to="/messages/$id" params={{ id: row.id }}>
              {plain(shortId(row.id, 12))}
            </Link>
          </Id>
        ),
      },
    ],
    [say],
  );
}
