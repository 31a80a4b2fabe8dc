/** Messages that wait for their time; each can be cancelled until then. */
import { getRouteApi } from "@tanstack/react-router";
import { useState } from "react";
import { useList } from "../../api/list";
import type { Message } from "../../api/shapes";
import { command } from "../../examples";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
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
import { CancelDialog } from "./CancelDialog";
import css from "./Delayed.module.css";
import { words } from "./words";

const route = getRouteApi("/delayed");

export default function DelayedPage() {
  const say = useWords(words);
  const whyNot = useWhyNot()("publisher");
  const values = route.useSearch();
  const navigate = route.useNavigate();
  const list = useList<Message>("delayed", values);
  const [chosen, choose] = useState<Message | null>(null);
  const columns: Column<Message>[] = [
    {
      id: "due",
      name: say("due"),
      width: "minmax(190px, 1.2fr)",
      narrow: true,
      cell: (row) => <Time at={row.deliver_at} />,
    },
    {
      id: "message",
      name: say("message"),
      width: "minmax(170px, 1fr)",
      narrow: true,
      cell: (row) => <Id id={row.id} />,
    },
    { id: "topic", name: say("topic"), width: "minmax(100px, 1fr)", cell: (row) => <Raw text={row.topic} /> },
    { id: "type", name: say("type"), width: "minmax(120px, 1fr)", cell: (row) => <Raw text={row.type ?? "–"} /> },
    { id: "key", name: say("key"), width: "minmax(100px, 1fr)", cell: (row) => <Key of={row} /> },
    {
      id: "source",
      name: say("source"),
      width: "minmax(90px, 1fr)",
      hidden: true,
      cell: (row) => <Raw text={row.source ?? "–"} />,
    },
    { id: "sent", name: say("sent"), width: "170px", hidden: true, cell: (row) => <Time at={row.time} /> },
    {
      id: "cancel",
      name: "",
      width: "80px",
      right: true,
      narrow: true,
      cell: (row) => (
        <Button look="bare" because={whyNot} onClick={() => choose(row)}>
          {say("cancel")}
        </Button>
      ),
    },
  ];
  const filters = useFilters(["topic", "type", "key", "from", "to"]);
  const filtered = Object.keys(values).length > 0;
  return (
    <Page title={say("title")} lead={say("lead")}>
      <Filters
        lead={say("show")}
        filters={filters}
        values={values}
        onChange={(next) => void navigate({ search: next })}
      />
      <Listing
        list={list}
        empty={
          <Empty title={say("empty")}>
            <p>{say(filtered ? "emptyFiltered" : "emptyWhat")}</p>
            {!filtered && <pre className={css["example"]}>{command("delay")}</pre>}
          </Empty>
        }
      >
        <Table
          name="delayed"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/messages/$id", params: { id: row.id } })}
        />
      </Listing>
      <CancelDialog message={chosen} onClose={() => choose(null)} onDone={list.again} />
    </Page>
  );
}
