/** What was asked to run again, and how far each is. */
import { useNavigate } from "@tanstack/react-router";
import { useList } from "../../api/list";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { Sentence } from "../Sentence";
import { Progress } from "./Progress";
import { RedriveMark } from "./RedriveMark";
import type { Redrive, RedriveState } from "./shapes";
import { words } from "./words";

export default function RedrivesPage() {
  const say = useWords(words);
  const navigate = useNavigate();
  const list = useList<Redrive>("redrives", {});
  const columns: Column<Redrive>[] = [
    { id: "id", name: say("id"), width: "52px", narrow: true, cell: (row) => `#${row.id}` },
    {
      id: "state",
      name: say("state"),
      width: "98px",
      narrow: true,
      cell: (row) => <RedriveMark state={row.state as RedriveState} />,
    },
    { id: "group", name: say("group"), width: "minmax(100px, 1fr)", cell: (row) => <Raw text={row.group} /> },
    {
      id: "progress",
      name: say("progress"),
      width: "minmax(128px, 2fr)",
      narrow: true,
      cell: (row) => <Progress of={row} />,
    },
    {
      id: "filter",
      name: say("filter"),
      width: "minmax(140px, 2.4fr)",
      cell: (row) => <Sentence filter={{ ...(row.filter as Record<string, unknown>), group: undefined }} />,
    },
    { id: "failed", name: say("failed"), width: "60px", right: true, cell: (row) => <Count value={row.failed} /> },
    { id: "skipped", name: say("skipped"), width: "60px", right: true, cell: (row) => <Count value={row.skipped} /> },
    { id: "by", name: say("by"), width: "minmax(60px, 0.5fr)", cell: (row) => <Raw text={row.by} /> },
    { id: "created", name: say("created"), width: "72px", cell: (row) => <Time at={row.created_at} show="ago" /> },
  ];
  return (
    <Page title={say("title")} lead={say("lead")}>
      <Listing
        list={list}
        empty={
          <Empty title={say("empty")}>
            <p>{say("emptyWhat")}</p>
          </Empty>
        }
      >
        <Table
          name="redrives"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/redrives/$id", params: { id: row.id } })}
        />
      </Listing>
    </Page>
  );
}
