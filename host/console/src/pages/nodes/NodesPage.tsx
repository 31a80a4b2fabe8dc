/** Who works here, and what was lost before anybody could. */
import { useMemo } from "react";
import { useList } from "../../api/list";
import type { LostRange, Node } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
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
      <Listing
        list={nodes}
        empty={
          <Empty title={say("none")}>
            <p>{say("noneWhat")}</p>
          </Empty>
        }
      >
        <NodeTable nodes={nodes.items} />
      </Listing>
      <Section title={say("lost")}>
        <p>{say("lostWhat")}</p>
        <Lost />
      </Section>
    </Page>
  );
}

/** A topic that was created anew tells where a group was, and not what it missed. */
function isEmpty(range: LostRange): boolean {
  return range.to_offset <= range.from_offset;
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
        width: "minmax(110px, 1fr)",
        right: true,
        narrow: true,
        cell: (row) => (isEmpty(row) ? say("noneKnown") : `${row.from_offset} – ${row.to_offset - 1}`),
      },
      {
        id: "records",
        name: say("records"),
        width: "72px",
        right: true,
        cell: (row) => <Count value={isEmpty(row) ? null : row.to_offset - row.from_offset} />,
      },
      {
        id: "reason",
        name: say("reason"),
        width: "minmax(140px, 2fr)",
        cell: (row) => <Raw text={row.why} />,
      },
      { id: "at", name: say("at"), width: "88px", cell: (row) => <Time at={row.found_at} show="ago" /> },
    ],
    [say],
  );
  return (
    <Listing list={list} empty={<p>{say("noLost")}</p>}>
      <Table
        name="lost"
        label={say("lost")}
        columns={columns}
        rows={list.items}
        rowKey={(row) => `${row.group} ${row.topic} ${row.partition} ${row.from_offset}`}
        more={list.more}
      />
    </Listing>
  );
}
