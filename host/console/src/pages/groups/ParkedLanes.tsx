/** Lanes that wait, each with its head. */
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { keyFilter } from "../../api/key";
import { useList } from "../../api/list";
import type { ParkedLane } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Key } from "../../ui/Key";
import { Listing } from "../../ui/Listing";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { ExampleLink } from "../deliveries/ExampleLink";
import { words } from "./words";

export function ParkedLanes({ group }: { group: string }) {
  const say = useWords(words);
  const list = useList<ParkedLane>(`groups/${group}/parked`, {});
  const columns = useMemo<Column<ParkedLane>[]>(
    () => [
      {
        id: "key",
        name: say("key"),
        width: "minmax(110px, 1.4fr)",
        narrow: true,
        cell: (row) => (
          <Link to="/deliveries" search={{ group, ...keyFilter(row) }}>
            <Key of={row} />
          </Link>
        ),
      },
      { id: "topic", name: say("topic"), width: "minmax(90px, 1fr)", cell: (row) => `${row.topic} ${row.partition}` },
      {
        id: "waiting",
        name: say("waiting"),
        width: "110px",
        right: true,
        narrow: true,
        cell: (row) => <Count value={row.waiting} />,
      },
      {
        id: "next",
        name: say("next"),
        width: "minmax(92px, 1fr)",
        narrow: true,
        cell: (row) => (row.held ? say("held") : <Time at={row.next_attempt_at} show="ago" />),
      },
      {
        id: "head",
        name: say("head"),
        width: "130px",
        cell: (row) => <ExampleLink delivery={row.head} label={say("open")} />,
      },
    ],
    [say, group],
  );
  return (
    <Listing list={list} empty={<p>{say("noParked")}</p>}>
      <Table
        name="parked"
        label={say("parked")}
        columns={columns}
        rows={list.items}
        rowKey={(row) => row.head}
        more={list.more}
      />
    </Listing>
  );
}
