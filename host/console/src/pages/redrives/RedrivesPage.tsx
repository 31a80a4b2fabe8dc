/** What was asked to run again, and how far each is. */
import { useNavigate } from "@tanstack/react-router";
import { useList } from "../../api/list";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Broken, Empty, Loading, Stale } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { Progress } from "./Progress";
import type { Redrive, RedriveState } from "./shapes";
import { words } from "./words";

export default function RedrivesPage() {
  const say = useWords(words);
  const navigate = useNavigate();
  const list = useList<Redrive>("redrives", {});
  const columns: Column<Redrive>[] = [
    { id: "id", name: say("id"), width: "70px", narrow: true, cell: (row) => `#${row.id}` },
    { id: "state", name: say("state"), width: "90px", narrow: true, cell: (row) => say(row.state as RedriveState) },
    { id: "group", name: say("group"), width: "minmax(100px, 1fr)", cell: (row) => <Raw text={row.group} /> },
    {
      id: "progress",
      name: say("progress"),
      width: "minmax(160px, 2fr)",
      narrow: true,
      cell: (row) => <Progress of={row} />,
    },
    { id: "failed", name: say("failed"), width: "80px", right: true, cell: (row) => <Count value={row.failed} /> },
    { id: "skipped", name: say("skipped"), width: "80px", right: true, cell: (row) => <Count value={row.skipped} /> },
    { id: "by", name: say("by"), width: "minmax(90px, 0.8fr)", cell: (row) => <Raw text={row.by} /> },
    { id: "created", name: say("created"), width: "180px", cell: (row) => <Time at={row.created_at} /> },
  ];
  return (
    <Page title={say("title")} lead={say("lead")}>
      <Stale at={list.at} error={list.error} />
      {list.loading && <Loading />}
      {Boolean(list.error) && list.items.length === 0 && <Broken error={list.error} again={list.again} />}
      {!list.loading && !list.error && list.items.length === 0 && (
        <Empty title={say("empty")}>
          <p>{say("emptyWhat")}</p>
        </Empty>
      )}
      {list.items.length > 0 && (
        <Table
          name="redrives"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/redrives/$id", params: { id: row.id } })}
        />
      )}
    </Page>
  );
}
