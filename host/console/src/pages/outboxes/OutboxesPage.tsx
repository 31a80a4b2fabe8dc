/** The outboxes of the configuration, and whether they flow. */
import { useList } from "../../api/list";
import type { Outbox } from "../../api/shapes";
import { command } from "../../examples";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Phase } from "../../ui/Phase";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import css from "./Outboxes.module.css";
import { words } from "./words";

const EXAMPLE = `[[outbox]]
name = "shop"
url = "postgres://courier@db/shop"
table = "courier_outbox"

${command("outboxSchema")} | psql "postgres://owner@db/shop"`;

const SHAPES = { running: "runs", failing: "stopped", starting: "waits" } as const;

export default function OutboxesPage() {
  const say = useWords(words);
  const list = useList<Outbox>("outboxes", {});
  const columns: Column<Outbox>[] = [
    {
      id: "name",
      name: say("name"),
      width: "minmax(110px, 1fr)",
      narrow: true,
      cell: (row) => <Raw text={row.name} />,
    },
    {
      id: "state",
      name: say("state"),
      width: "90px",
      narrow: true,
      cell: (row) => <Phase shape={SHAPES[row.state]}>{say(row.state)}</Phase>,
    },
    {
      id: "pending",
      name: say("pending"),
      width: "80px",
      right: true,
      narrow: true,
      cell: (row) => <Count value={row.pending} />,
    },
    { id: "oldest", name: say("oldest"), width: "84px", cell: (row) => <Time at={row.oldest_at} show="ago" /> },
    { id: "relayed", name: say("relayed"), width: "72px", right: true, cell: (row) => <Count value={row.relayed} /> },
    { id: "refused", name: say("refused"), width: "64px", right: true, cell: (row) => <Count value={row.refused} /> },
    { id: "node", name: say("node"), width: "minmax(64px, 0.5fr)", cell: (row) => <Raw text={row.node ?? "–"} /> },
    { id: "table", name: say("table"), width: "minmax(110px, 0.8fr)", cell: (row) => <Raw text={row.table} /> },
    { id: "database", name: say("database"), width: "minmax(140px, 1.4fr)", cell: (row) => <Raw text={row.url} /> },
  ];
  const failing = list.items.filter((row) => row.why);
  return (
    <Page title={say("title")} lead={say("lead")}>
      {failing.map((row) => (
        <p key={row.name} className={css["why"]} role="alert">
          <b>{row.name}</b>: <Raw text={row.why ?? ""} />
        </p>
      ))}
      <Listing
        list={list}
        empty={
          <Empty title={say("empty")}>
            <p>{say("emptyWhat")}</p>
            <pre className={css["example"]}>{EXAMPLE}</pre>
          </Empty>
        }
      >
        <Table
          name="outboxes"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.name}
          more={list.more}
        />
      </Listing>
    </Page>
  );
}
