/** The items of a redrive with their results. */
import { useNavigate } from "@tanstack/react-router";
import { useList } from "../../api/list";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
import { Listing } from "../../ui/Listing";
import { Phase, type Shape } from "../../ui/Phase";
import { Raw } from "../../ui/Raw";
import { State } from "../../ui/State";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import type { Item, ItemState } from "./shapes";
import { words } from "./words";

type Unsettled = Exclude<ItemState, "HANDLED" | "HANDLE_FAIL">;
const SHAPES: Record<Unsettled, Shape> = { WAITING: "waits", RUNNING: "runs", SKIPPED: "ended" };

export function Items({ id }: { id: string }) {
  const say = useWords(words);
  const navigate = useNavigate();
  const list = useList<Item>(`redrives/${id}/items`, {});
  const columns: Column<Item>[] = [
    {
      id: "result",
      name: say("result"),
      width: "110px",
      narrow: true,
      cell: (row) =>
        row.state === "HANDLED" || row.state === "HANDLE_FAIL" ? (
          <State state={row.state} />
        ) : (
          <Phase shape={SHAPES[row.state as Unsettled] ?? "waits"}>{say(row.state as ItemState)}</Phase>
        ),
    },
    {
      id: "message",
      name: say("message"),
      width: "minmax(160px, 1fr)",
      narrow: true,
      cell: (row) => (row.message_id ? <Id id={row.message_id} /> : "–"),
    },
    {
      id: "place",
      name: say("place"),
      width: "minmax(110px, 0.8fr)",
      cell: (row) => <Raw text={`${row.topic}:${row.partition}:${row.offset}`} />,
    },
    { id: "reason", name: say("reason"), width: "minmax(160px, 2fr)", cell: (row) => <Raw text={row.reason ?? "–"} /> },
    { id: "asked", name: say("asked"), width: "140px", cell: (row) => <Time at={row.asked_at} show="exact" /> },
    { id: "ended", name: say("ended"), width: "140px", cell: (row) => <Time at={row.finished_at} show="exact" /> },
  ];
  const open = (row: Item) => {
    if (row.message_id) void navigate({ to: "/messages/$id", params: { id: row.message_id } });
  };
  return (
    <Listing list={list} empty={<p>{say("noItems")}</p>}>
      <Table
        name="redrive-items"
        label={say("items")}
        columns={columns}
        rows={list.items}
        rowKey={(row) => row.delivery}
        more={list.more}
        onOpen={open}
      />
    </Listing>
  );
}
