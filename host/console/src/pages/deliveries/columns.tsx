/** The columns of deliveries, here and on other pages that list them. */
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Delivery } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { shortId } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
import { Key } from "../../ui/Key";
import { Raw } from "../../ui/Raw";
import { State } from "../../ui/State";
import type { Column } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { words } from "./words";

/** Characters of a reason that a cell can show. */
const REASON = 300;

/** Whether a delivery failed and comes again by itself. */
export function retrying(delivery: Delivery): boolean {
  return delivery.next_attempt_at !== null;
}

/** When something last happened to a delivery: its end, its last attempt, or that it was received. */
export function updatedAt(delivery: Delivery): string | null {
  return delivery.settled_at ?? delivery.attempts.at(-1)?.finished_at ?? delivery.received_at;
}

export function useColumns(): Column<Delivery>[] {
  const say = useWords(words);
  return useMemo(
    () => [
      {
        id: "state",
        name: say("state"),
        width: "minmax(118px, 1.5fr)",
        narrow: true,
        cell: (row) => <State state={row.state} retrying={retrying(row)} />,
      },
      { id: "key", name: say("key"), width: "minmax(96px, 1fr)", narrow: true, cell: (row) => <Key of={row} /> },
      { id: "type", name: say("type"), width: "minmax(96px, 1fr)", cell: (row) => <Raw text={row.type ?? "–"} /> },
      { id: "group", name: say("group"), width: "minmax(72px, 0.9fr)", cell: (row) => row.group },
      {
        id: "reason",
        name: say("reason"),
        width: "minmax(120px, 2.4fr)",
        cell: (row) => row.reason && <Raw text={row.reason.slice(0, REASON)} />,
      },
      {
        id: "attempts",
        name: say("attempts"),
        width: "64px",
        right: true,
        cell: (row) => row.attempts.at(-1)?.number ?? 0,
      },
      {
        id: "next",
        name: say("next"),
        width: "72px",
        hidden: true,
        cell: (row) => <Time at={row.next_attempt_at} show="ago" />,
      },
      {
        id: "time",
        name: say("time"),
        width: "64px",
        narrow: true,
        right: true,
        cell: (row) => <Time at={updatedAt(row)} show="ago" />,
      },
      { id: "topic", name: say("topic"), width: "minmax(70px, 0.6fr)", hidden: true, cell: (row) => row.topic },
      {
        id: "place",
        name: say("place"),
        width: "80px",
        right: true,
        hidden: true,
        cell: (row) => `${row.partition}:${row.offset}`,
      },
      { id: "node", name: say("node"), width: "80px", hidden: true, cell: (row) => row.node ?? "–" },
      {
        id: "id",
        name: say("id"),
        width: "122px",
        cell: (row) => (
          <Id id={row.message_id}>
            <Link to="/messages/$id" params={{ id: row.message_id }}>
              {plain(shortId(row.message_id, 12))}
            </Link>
          </Id>
        ),
      },
    ],
    [say],
  );
}
