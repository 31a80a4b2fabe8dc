/** Nodes that are expected to hear a group's broadcasts. */
import { useMemo } from "react";
import type { Hearer } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { words } from "./words";

export function Hearers({ hearers }: { hearers: Hearer[] }) {
  const say = useWords(words);
  const columns = useMemo<Column<Hearer>[]>(
    () => [
      { id: "node", name: say("node"), width: "minmax(100px, 1fr)", narrow: true, cell: (row) => row.node },
      { id: "topic", name: say("topic"), width: "minmax(100px, 1fr)", narrow: true, cell: (row) => row.topic },
      {
        id: "lag",
        name: say("lag"),
        width: "80px",
        right: true,
        narrow: true,
        cell: (row) => <Count value={row.lag} />,
      },
      { id: "seen", name: say("heard"), width: "minmax(150px, 1fr)", cell: (row) => <Time at={row.seen_at} /> },
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
