/** Half messages: the list, and one of them beside it when the URL names it. */
import { getRouteApi } from "@tanstack/react-router";
import { useList } from "../../api/list";
import type { Transaction } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Filters } from "../../ui/Filters";
import { Id } from "../../ui/Id";
import { Broken, Empty, Loading, Stale } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { Half } from "./Half";
import { words } from "./words";

const route = getRouteApi("/half-messages");
const STATES = ["PREPARED", "COMMITTED", "ROLLED_BACK", "ABANDONED"] as const;

export default function HalvesPage() {
  const say = useWords(words);
  const { id, state } = route.useSearch();
  const navigate = route.useNavigate();
  const list = useList<Transaction>("transactions", state ? { state } : {});
  const columns: Column<Transaction>[] = [
    { id: "id", name: say("id"), width: "minmax(170px, 1.2fr)", narrow: true, cell: (row) => <Id id={row.id} /> },
    { id: "state", name: say("stateName"), width: "100px", narrow: true, cell: (row) => say(row.state) },
    {
      id: "messages",
      name: say("messages"),
      width: "80px",
      right: true,
      cell: (row) => <Count value={row.messages.length} />,
    },
    { id: "created", name: say("created"), width: "minmax(170px, 1fr)", cell: (row) => <Time at={row.created_at} /> },
    { id: "deadline", name: say("deadline"), width: "minmax(170px, 1fr)", cell: (row) => <Time at={row.deadline} /> },
    { id: "checks", name: say("checks"), width: "70px", right: true, cell: (row) => <Count value={row.checks} /> },
    { id: "next", name: say("nextCheck"), width: "150px", cell: (row) => <Time at={row.next_check_at} show="ago" /> },
    {
      id: "reason",
      name: say("reason"),
      width: "minmax(120px, 1.4fr)",
      cell: (row) => <Raw text={row.reason ?? "–"} />,
    },
  ];
  const filters = [
    {
      name: "state",
      label: say("state"),
      phrase: say("inState", { value: "{value}" }),
      only: true,
      options: STATES.map((value) => ({ value, label: say(value) })),
    },
  ];
  if (id !== undefined)
    return <Half id={id} onClose={() => void navigate({ search: { state } })} onChanged={list.again} />;
  return (
    <Page title={say("title")} lead={say("lead")}>
      <Filters
        lead={say("show")}
        filters={filters}
        values={state ? { state } : {}}
        onChange={(next) => void navigate({ search: next })}
      />
      <Stale at={list.at} error={list.error} />
      {list.loading && <Loading />}
      {Boolean(list.error) && list.items.length === 0 && <Broken error={list.error} again={list.again} />}
      {!list.loading && !list.error && list.items.length === 0 && (
        <Empty title={say("empty")}>
          <p>{say(state ? "emptyFiltered" : "emptyWhat")}</p>
        </Empty>
      )}
      {list.items.length > 0 && (
        <Table
          name="half-messages"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ search: { state, id: row.id } })}
        />
      )}
    </Page>
  );
}
