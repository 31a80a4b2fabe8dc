/** Half messages: the list, and one of them beside it when the URL names it. */
import { getRouteApi } from "@tanstack/react-router";
import { useList } from "../../api/list";
import type { Transaction } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Filters } from "../../ui/Filters";
import { Id } from "../../ui/Id";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { Half } from "./Half";
import { HalfMark } from "./HalfMark";
import { words } from "./words";

const route = getRouteApi("/half-messages");
const STATES = ["PREPARED", "COMMITTED", "ROLLED_BACK", "ABANDONED"] as const;

export default function HalvesPage() {
  const say = useWords(words);
  const { id, state } = route.useSearch();
  const navigate = route.useNavigate();
  const list = useList<Transaction>("transactions", state ? { state } : {});
  const columns: Column<Transaction>[] = [
    { id: "id", name: say("id"), width: "minmax(136px, 0.9fr)", narrow: true, cell: (row) => <Id id={row.id} /> },
    {
      id: "state",
      name: say("stateName"),
      width: "112px",
      narrow: true,
      cell: (row) => <HalfMark state={row.state} />,
    },
    {
      id: "messages",
      name: say("messages"),
      width: "72px",
      right: true,
      cell: (row) => <Count value={row.messages.length} />,
    },
    {
      id: "about",
      name: say("holds"),
      width: "minmax(120px, 1.2fr)",
      cell: (row) => <Raw text={[...new Set(row.messages.map((one) => one.type ?? one.topic))].join(", ")} />,
    },
    {
      id: "created",
      name: say("created"),
      width: "88px",
      narrow: true,
      cell: (row) => <Time at={row.created_at} show="ago" />,
    },
    {
      id: "deadline",
      name: say("deadline"),
      width: "88px",
      hidden: true,
      cell: (row) => <Time at={row.deadline} show="ago" />,
    },
    { id: "checks", name: say("checks"), width: "70px", right: true, cell: (row) => <Count value={row.checks} /> },
    { id: "next", name: say("nextCheck"), width: "88px", cell: (row) => <Time at={row.next_check_at} show="ago" /> },
    {
      id: "reason",
      name: say("reason"),
      width: "minmax(140px, 2fr)",
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
      <Listing
        list={list}
        empty={
          <Empty title={say("empty")}>
            <p>{say(state ? "emptyFiltered" : "emptyWhat")}</p>
          </Empty>
        }
      >
        <Table
          name="half-messages"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ search: { state, id: row.id } })}
        />
      </Listing>
    </Page>
  );
}
