/** Who changed what, and proof that nobody changed that. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { get, path } from "../../api/client";
import { useList } from "../../api/list";
import { words as errorWords } from "../../api/problem";
import type { AuditEntry, AuditVerdict } from "../../api/shapes";
import { shortDigests } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Button } from "../../ui/Button";
import { Filters } from "../../ui/Filters";
import { Id } from "../../ui/Id";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { useFilters } from "../shared";
import { Action, choices } from "./Action";
import { words as actions } from "./action-words";
import { Entry } from "./Entry";
import { words } from "./words";

const route = getRouteApi("/audit");
const DETAIL = 400;

export default function AuditPage() {
  const say = useWords(words);
  const filter = route.useSearch();
  const navigate = route.useNavigate();
  const sayAction = useWords(actions);
  const filters = useFilters(["by", "action", "subject", "from", "to"]).map((one) =>
    one.name === "action" ? { ...one, options: choices(sayAction) } : one,
  );
  const list = useList<AuditEntry>("audit", filter);
  const columns = useColumns();
  const [opened, setOpened] = useState<AuditEntry | null>(null);
  return (
    <Page title={say("title")} lead={say("about")} actions={<Verify />}>
      <Filters
        lead={say("lead")}
        filters={filters}
        values={filter}
        onChange={(next) => void navigate({ search: next })}
      />
      <Listing list={list} empty={<Empty title={say("nothing")} />}>
        <Table
          name="audit"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => String(row.id)}
          more={list.more}
          onOpen={setOpened}
        />
      </Listing>
      {opened && <Entry entry={opened} onClose={() => setOpened(null)} />}
    </Page>
  );
}

function useColumns(): Column<AuditEntry>[] {
  const say = useWords(words);
  return useMemo(
    () => [
      { id: "at", name: say("at"), width: "150px", cell: (row) => <Time at={row.at} /> },
      { id: "by", name: say("by"), width: "minmax(70px, 0.6fr)", narrow: true, cell: (row) => <Raw text={row.by} /> },
      {
        id: "action",
        name: say("action"),
        width: "minmax(80px, 0.6fr)",
        narrow: true,
        cell: (row) => <Action name={row.action} />,
      },
      {
        id: "subject",
        name: say("subject"),
        width: "minmax(120px, 1.2fr)",
        narrow: true,
        cell: (row) => <Raw text={row.subject.slice(0, DETAIL)} />,
      },
      {
        id: "detail",
        name: say("detail"),
        width: "minmax(160px, 2fr)",
        cell: (row) => <Raw text={shortDigests(row.detail ?? "").slice(0, DETAIL)} />,
      },
      {
        id: "hash",
        name: say("hash"),
        width: "110px",
        cell: (row) =>
          row.hash && <Id id={row.hash} short={row.hash.replace(/^sha256:/, "").slice(0, 8)} what={say("hash")} />,
      },
    ],
    [say],
  );
}

function Verify() {
  const say = useWords(words);
  const verdict = useQuery({
    queryKey: ["audit", "verify"],
    queryFn: ({ signal }) => get<AuditVerdict>(path("audit", "verify"), { signal }),
    enabled: false,
    retry: false,
  });
  return (
    <>
      <span role="status">
        {verdict.isFetching && say("verifying")}
        {!verdict.isFetching && verdict.error && errorWords(verdict.error)}
        {!verdict.isFetching && verdict.data && (
          <>
            <Mark state={verdict.data.ok ? "HANDLED" : "HANDLE_FAIL"} />{" "}
            {verdict.data.ok
              ? say("whole", { n: verdict.data.checked })
              : say("broken", { n: verdict.data.checked, at: verdict.data.broken_at ?? "?" })}
          </>
        )}
      </span>
      <Button onClick={() => void verdict.refetch()}>{say("verify")}</Button>
    </>
  );
}
