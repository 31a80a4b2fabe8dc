/** What was given up to a topic of dead letters, and the way back. */
import { getRouteApi } from "@tanstack/react-router";
import { useState } from "react";
import { useList } from "../../api/list";
import type { DeadLetter } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Count } from "../../ui/Count";
import { Filters } from "../../ui/Filters";
import { Id } from "../../ui/Id";
import { Key } from "../../ui/Key";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Phase } from "../../ui/Phase";
import { Raw } from "../../ui/Raw";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { RedriveDialog } from "../deliveries/RedriveDialog";
import { BOTH, useFilters } from "../shared";
import { words } from "./words";

const route = getRouteApi("/dead-letters");

export default function DeadPage() {
  const say = useWords(words);
  const whyNot = useWhyNot()("operator");
  const navigate = route.useNavigate();
  // What was handled since is done: it is shown only where somebody asks for it.
  const values: Record<string, string | undefined> = { handled: "false", ...route.useSearch() };
  const { handled, ...others } = values;
  const list = useList<DeadLetter>("dead-letters", handled === BOTH ? others : values);
  const [planning, plan] = useState(false);
  const columns: Column<DeadLetter>[] = [
    { id: "at", name: say("at"), width: "72px", narrow: true, cell: (row) => <Time at={row.at} show="ago" /> },
    {
      id: "state",
      name: say("state"),
      width: "minmax(104px, 0.8fr)",
      narrow: true,
      cell: (row) =>
        row.handled_since === null ? (
          <Phase shape="stopped">{say("open")}</Phase>
        ) : (
          <Phase shape="done">
            {say("handledSince")} <Time at={row.handled_since} show="ago" />
          </Phase>
        ),
    },
    {
      id: "message",
      name: say("message"),
      width: "minmax(136px, 0.8fr)",
      narrow: true,
      cell: (row) => <Id id={row.message_id} />,
    },
    { id: "group", name: say("groupName"), width: "minmax(90px, 0.7fr)", cell: (row) => <Raw text={row.group} /> },
    { id: "came", name: say("came"), width: "minmax(90px, 0.7fr)", cell: (row) => <Raw text={row.topic} /> },
    { id: "key", name: say("key"), width: "minmax(104px, 0.8fr)", cell: (row) => <Key of={row} /> },
    {
      id: "type",
      name: say("type"),
      width: "minmax(100px, 0.8fr)",
      hidden: true,
      cell: (row) => <Raw text={row.type ?? "–"} />,
    },
    {
      id: "attempts",
      name: say("attempts"),
      width: "64px",
      right: true,
      cell: (row) => <Count value={row.attempts} />,
    },
    { id: "reason", name: say("reason"), width: "minmax(140px, 2fr)", cell: (row) => <Raw text={row.reason ?? "–"} /> },
    { id: "letter", name: say("letter"), width: "minmax(130px, 1fr)", cell: (row) => <Raw text={row.dead_letter} /> },
  ];
  const filters = useFilters(["handled", "group", "topic", "from", "to"]);
  const group = values["group"];
  const filtered = Object.keys(others).length > 0 || handled !== BOTH;
  const actions = (
    <Button because={whyNot ?? (group ? null : say("needGroup"))} onClick={() => plan(true)}>
      {say("again")}
    </Button>
  );
  return (
    <Page title={say("title")} lead={say("lead")} actions={actions}>
      <Filters
        lead={say("show")}
        filters={filters}
        values={values}
        onChange={(next) => void navigate({ search: { ...next, handled: next["handled"] ?? BOTH } })}
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
          name="dead-letters"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => `${row.delivery} ${row.at}`}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/messages/$id", params: { id: row.message_id } })}
        />
      </Listing>
      {planning && group && <RedriveDialog filter={{ group, state: "HANDLE_FAIL" }} onClose={() => plan(false)} />}
    </Page>
  );
}
