/** What was made active, newest first, and by whom. */
import { useMemo } from "react";
import type { Plugin } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { words } from "./words";

type Activation = Plugin["activations"][number];

export function Activations({ plugin }: { plugin: Plugin }) {
  const say = useWords(words);
  const columns = useMemo<Column<Activation>[]>(
    () => [
      { id: "at", name: say("since"), width: "minmax(136px, 1fr)", narrow: true, cell: (row) => <Time at={row.at} /> },
      {
        id: "version",
        name: say("version"),
        width: "minmax(90px, 1fr)",
        narrow: true,
        cell: (row) => <Id id={row.version} short={shortVersion(row.version)} what={say("version")} />,
      },
      {
        id: "by",
        name: say("activatedBy"),
        width: "minmax(52px, 2fr)",
        narrow: true,
        cell: (row) => <Raw text={row.by} />,
      },
    ],
    [say],
  );
  if (plugin.activations.length === 0) return <p>{say("never")}</p>;
  return (
    <Table
      name="activations"
      label={say("history")}
      plain
      columns={columns}
      rows={plugin.activations}
      rowKey={(row) => `${row.at} ${row.version}`}
    />
  );
}
