/** Who works here, and what was lost before anybody could. */
import { useMemo } from "react";
import { useList } from "../../api/list";
import type { LostRange, Node } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Broken, Empty, Loading, Stale } from "../../ui/Notice";
import { Page, Section } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { NodeTable } from "./NodeTable";
import { words } from "./words";

export default function NodesPage() {
  const say = useWords(words);
  const nodes = useList<Node>("nodes", {});
  return (
    <Page title={say("title")} lead={say("about")}>
      <Stale at={nodes.at} error={nodes.error} />
      {nodes.loading && <Loading />}
      {nodes.error !== null && nodes.items.length === 0 && <Broken error={nodes.error} again={nodes.again} />}
      {!nodes.loading && !nodes.error && nodes.items.length === 0 && (
        <Empty title={say("none")}>
          <p>{say("noneWhat")}</p>
        </Empty>
      )}
      {nodes.items.length > 0 && <NodeTable nodes={nodes.items} />}
      <Section title={say("lost")}>
        <p>{say("lostWhat")}</p>
        <Lost />
      </Section>
    </Page>
  );
}

function Lost() {
  const say = useWords(words);
  const list = useList<LostRange>("lost-ranges", {});
  const columns = useMemo<Column<LostRange>[]>(
    () => [
      { id: "group", name: say("group"), width: "minmax(100px, 1fr)", narrow: true, cell: (row) => row.group },
      { id: "topic", name: say("topic"), width: "minmax(90px, 1fr)", narrow: true, cell: (row) => row.topic },
      { id: "partition", name: say("partition"), width: "72px", right: true, cell: (row) => row.partition },
      {
        id: "range",
        name: say("range"),
        width: "minmax(120px, 1fr)",
        right: true,
        narrow: true,
        cell: (row) => `${row.from_offset} – ${row.to_offset}`,
      },
      {
        id: "reason",
        name: say("reason"),
        width: "minmax(140px, 2fr)",
        cell: (row) => <Raw text={row.why} />,
      },
      { id: "at", name: say("at"), width: "minmax(120px, 1fr)", cell: (row) => <Time at={row.found_at} /> },
    ],
    [say],
  );
  if (list.loading) return <Loading />;
  if (list.error && list.items.length === 0) return <Broken error={list.error} again={list.again} />;
  if (list.items.length === 0) return <p>{say("noLost")}</p>;
  return (
    <Table
      name="lost"
      label={say("lost")}
      columns={columns}
      rows={list.items}
      rowKey={(row) => `${row.group} ${row.topic} ${row.partition} ${row.from_offset}`}
      more={list.more}
    />
  );
}
