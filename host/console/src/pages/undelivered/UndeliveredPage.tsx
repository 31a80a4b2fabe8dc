/** What could not be delivered: kept whole until a person decides. */
import { getRouteApi } from "@tanstack/react-router";
import { useState } from "react";
import { useList } from "../../api/list";
import type { Undelivered } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Count } from "../../ui/Count";
import { Filters } from "../../ui/Filters";
import { Id } from "../../ui/Id";
import { Key } from "../../ui/Key";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { useFilters } from "../shared";
import { Decide, type Decision } from "./Decide";
import { words } from "./words";

const route = getRouteApi("/undelivered");

export default function UndeliveredPage() {
  const say = useWords(words);
  const whyNot = useWhyNot()("operator");
  const values = route.useSearch();
  const navigate = route.useNavigate();
  const list = useList<Undelivered>("undelivered", values);
  const [decision, decide] = useState<Decision | null>(null);
  const button = (act: Decision["act"], name: "resend" | "giveUp") => (row: Undelivered) => (
    <Button look="bare" because={whyNot} onClick={() => decide({ act, entry: row })}>
      {say(name)}
    </Button>
  );
  const columns: Column<Undelivered>[] = [
    { id: "since", name: say("since"), width: "72px", narrow: true, cell: (row) => <Time at={row.since} show="ago" /> },
    { id: "message", name: say("message"), width: "minmax(136px, 0.8fr)", cell: (row) => <Id id={row.message_id} /> },
    {
      id: "topic",
      name: say("topic"),
      width: "minmax(100px, 1fr)",
      narrow: true,
      cell: (row) => <Raw text={row.topic ?? "–"} />,
    },
    { id: "key", name: say("key"), width: "minmax(90px, 0.7fr)", cell: (row) => <Key of={row} /> },
    {
      id: "type",
      name: say("type"),
      width: "minmax(100px, 0.8fr)",
      hidden: true,
      cell: (row) => <Raw text={row.type ?? "–"} />,
    },
    {
      id: "from",
      name: say("from"),
      width: "minmax(90px, 0.7fr)",
      cell: (row) => <Raw text={row.group ?? row.outbox ?? row.source ?? "–"} />,
    },
    {
      id: "size",
      name: say("size"),
      width: "84px",
      right: true,
      hidden: true,
      cell: (row) => <Count value={row.bytes} />,
    },
    { id: "why", name: say("why"), width: "minmax(160px, 2fr)", cell: (row) => <Raw text={row.why} /> },
    { id: "resend", name: "", width: "80px", right: true, narrow: true, cell: button("resend", "resend") },
    { id: "give-up", name: "", width: "80px", right: true, narrow: true, cell: button("give-up", "giveUp") },
  ];
  const filtered = Object.keys(values).length > 0;
  return (
    <Page title={say("title")} lead={say("lead")}>
      <Filters
        lead={say("show")}
        filters={useFilters(["topic", "group"])}
        values={values}
        onChange={(next) => void navigate({ search: next })}
      />
      <Listing
        list={list}
        empty={
          <Empty title={say("empty")}>
            <p>{say(filtered ? "emptyFiltered" : "emptyWhat")}</p>
          </Empty>
        }
      >
        <Table
          name="undelivered"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/messages/$id", params: { id: row.message_id } })}
        />
      </Listing>
      <Decide decision={decision} onClose={() => decide(null)} onDone={list.again} />
    </Page>
  );
}
