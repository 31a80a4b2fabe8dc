/** Where a group is in its partitions. */
import { useMemo } from "react";
import type { Group, Partition } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { words } from "./words";

export function Partitions({ group }: { group: Group }) {
  const say = useWords(words);
  const columns = useMemo<Column<Partition>[]>(
    () => [
      { id: "topic", name: say("topic"), width: "minmax(120px, 2fr)", narrow: true, cell: (row) => row.topic },
      {
        id: "partition",
        name: say("partition"),
        width: "80px",
        right: true,
        narrow: true,
        cell: (row) => row.partition,
      },
      {
        id: "position",
        name: say("position"),
        width: "100px",
        right: true,
        cell: (row) => <Count value={row.position} />,
      },
      { id: "end", name: say("end"), width: "100px", right: true, cell: (row) => <Count value={row.end} /> },
      {
        id: "lag",
        name: say("lag"),
        width: "80px",
        right: true,
        narrow: true,
        cell: (row) => <Count value={row.lag} />,
      },
      { id: "node", name: say("node"), width: "minmax(90px, 1fr)", cell: (row) => row.node ?? "–" },
      {
        id: "why",
        name: say("whyWaits"),
        width: "minmax(120px, 3fr)",
        cell: (row) => row.why && <Raw text={row.why} />,
      },
    ],
    [say],
  );
  if (group.partitions.length === 0) return <p>{say("noPartitions")}</p>;
  return (
    <Table
      name="partitions"
      label={say("partitions")}
      plain
      columns={columns}
      rows={group.partitions}
      rowKey={(row) => `${row.topic} ${row.partition}`}
    />
  );
}
