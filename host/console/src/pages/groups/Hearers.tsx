/** Nodes that are expected to hear a group's broadcasts. */
import { useMemo } from "react";
import type { Hearer } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { words } from "./words";

export function Hearers({ hearers }: { hearers: Hearer[] }) {
  const say = useWords(words);
  const columns = useMemo<Column<Hearer>[]>(
    () => [
      { id: "node", name: say("node"), width: "minmax(72px, 1fr)", narrow: true, cell: (row) => row.node },
      {
        id: "state",
        name: say("state"),
        width: "minmax(84px, 1fr)",
        narrow: true,
        cell: (row) => (
          <>
            <Mark state={row.live ? "HANDLED" : row.forgotten ? "COMMITTED" : "PUSH_FAIL"} />{" "}
            {say(row.live ? "live" : row.forgotten ? "forgotten" : "away")}
          </>
        ),
      },
      { id: "topic", name: say("topic"), width: "minmax(72px, 1fr)", narrow: true, cell: (row) => row.topic },
      {
        id: "lag",
        name: say("lag"),
        width: "48px",
        right: true,
        narrow: true,
        cell: (row) => <Count value={row.lag} />,
      },
      { id: "since", name: say("since"), width: "88px", cell: (row) => <Time at={row.registered_at} show="ago" /> },
      { id: "seen", name: say("heard"), width: "88px", cell: (row) => <Time at={row.seen_at} show="ago" /> },
      { id: "why", name: say("whyNot"), width: "minmax(120px, 1.6fr)", cell: (row) => <Raw text={row.why ?? "–"} /> },
    ],
    [say],
  );
  return (
    <Table
      name="hearers"
      label={say("broadcast")}
      plain
      columns={columns}
      rows={hearers}
      rowKey={(row) => `${row.node} ${row.topic}`}
    />
  );
}
