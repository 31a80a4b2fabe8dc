/** Groups at a glance. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import type { GroupOverview } from "../../api/shapes";
import { duration } from "../../format/duration";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { type Column, Table } from "../../ui/Table";
import { words } from "./words";

const STATES: Record<string, "running" | "paused" | "cannotRun" | "notBound"> = {
  running: "running",
  paused: "paused",
  cannot_run: "cannotRun",
  not_bound: "notBound",
};

export function Running({ state, why }: { state: string; why: string | null }) {
  const say = useWords(words);
  const runs = state === "running";
  return (
    <span title={why ?? undefined}>
      <span style={{ color: runs ? "var(--handled)" : "var(--push-fail)", marginRight: 6 }}>
        <Mark state={runs ? "HANDLED" : "PUSH_FAIL"} />
      </span>
      {say(STATES[state] ?? "running")}
      {why && (
        <>
          {": "}
          <Raw text={why} />
        </>
      )}
    </span>
  );
}

export function GroupTable({ groups }: { groups: GroupOverview[] }) {
  const say = useWords(words);
  const navigate = useNavigate();
  const columns = useMemo<Column<GroupOverview>[]>(() => {
    const ms = (value: number | null) => (value === null ? <Count value={null} /> : duration(value));
    return [
      {
        id: "group",
        name: say("group"),
        width: "minmax(104px, 1.3fr)",
        narrow: true,
        cell: (row) => (
          <Link to="/groups/$group" params={{ group: row.group }}>
            {row.group}
          </Link>
        ),
      },
      {
        id: "state",
        name: say("state"),
        width: "minmax(104px, 1.8fr)",
        narrow: true,
        cell: (row) => <Running state={row.state} why={row.why} />,
      },
      {
        id: "lag",
        name: say("lagShort"),
        width: "64px",
        right: true,
        narrow: true,
        cell: (row) => <Count value={row.lag} />,
      },
      {
        id: "parked",
        name: say("parked"),
        width: "56px",
        right: true,
        cell: (row) => <Count value={row.open.waiting + row.open.retrying + row.open.push_fail + row.open.held} />,
      },
      {
        id: "rate",
        name: say("rate"),
        width: "88px",
        right: true,
        cell: (row) => <Count value={row.per_minute.handled} />,
      },
      {
        id: "fails",
        name: say("failRate"),
        width: "80px",
        right: true,
        cell: (row) => <Count value={row.per_minute.failed} />,
      },
      { id: "p50", name: say("p50"), width: "64px", right: true, cell: (row) => ms(row.p50_ms) },
      { id: "p99", name: say("p99"), width: "64px", right: true, cell: (row) => ms(row.p99_ms) },
      { id: "total", name: say("total"), width: "68px", right: true, cell: (row) => <Count value={row.handled} /> },
      {
        id: "failed",
        name: say("failedTotal"),
        width: "60px",
        right: true,
        cell: (row) => <Count value={row.failed} />,
      },
    ];
  }, [say]);
  return (
    <Table
      name="groups"
      label={say("groups")}
      plain
      columns={columns}
      rows={groups}
      rowKey={(row) => row.group}
      onOpen={(row) => void navigate({ to: "/groups/$group", params: { group: row.group } })}
    />
  );
}
