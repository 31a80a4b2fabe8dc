/** Nodes, live and away. */
import { useMemo } from "react";
import type { Node } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Mark } from "../../ui/State";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { words } from "./words";

export function NodeTable({ nodes }: { nodes: Node[] }) {
  const say = useWords(words);
  const columns = useMemo<Column<Node>[]>(
    () => [
      { id: "name", name: say("name"), width: "minmax(120px, 1fr)", narrow: true, cell: (row) => row.name },
      {
        id: "state",
        name: say("state"),
        width: "minmax(80px, 1fr)",
        narrow: true,
        cell: (row) => (
          <span>
            <span style={{ marginRight: 6 }}>
              <Mark state={row.live ? "HANDLED" : "PUSH_FAIL"} />
            </span>
            {say(row.live ? "live" : "away")}
          </span>
        ),
      },
      { id: "joined", name: say("joined"), width: "minmax(160px, 1fr)", cell: (row) => <Time at={row.joined_at} /> },
      {
        id: "lease",
        name: say("lease"),
        width: "minmax(84px, 1fr)",
        narrow: true,
        cell: (row) => <Time at={row.lease_until} show="ago" />,
      },
    ],
    [say],
  );
  return <Table name="nodes" label={say("title")} columns={columns} rows={nodes} rowKey={(row) => row.name} plain />;
}
