/** One order number in hand: is it a message, or a key? */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Navigate } from "@tanstack/react-router";
import { get, path } from "../../api/client";
import { useList } from "../../api/list";
import { Problem } from "../../api/problem";
import { type Delivery, isNotRecorded, type Message, type NotRecorded } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Broken, Empty, Loading } from "../../ui/Notice";
import { Page, Section } from "../../ui/Page";
import { Table } from "../../ui/Table";
import { useColumns as useDeliveryColumns } from "../deliveries/columns";
import { useColumns as useMessageColumns } from "../sent/columns";
import { words } from "./words";

const route = getRouteApi("/find");

async function byId(id: string, signal: AbortSignal): Promise<Message | null> {
  try {
    const answer = await get<Message | NotRecorded>(path("messages", id), { signal });
    // It may be a key, which the lists below know.
    return isNotRecorded(answer) ? null : answer;
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 400)) return null;
    throw error;
  }
}

export default function FindPage() {
  const say = useWords(words);
  const { q = "" } = route.useSearch();
  const navigate = route.useNavigate();
  const asked = q !== "";
  const message = useQuery({
    queryKey: ["messages", "find", q],
    queryFn: ({ signal }) => byId(q, signal),
    enabled: asked,
  });
  const deliveries = useList<Delivery>("deliveries", { key: q }, asked);
  const messages = useList<Message>("messages", { key: q }, asked);
  const deliveryColumns = useDeliveryColumns();
  const messageColumns = useMessageColumns();
  const open = (id: string) => void navigate({ to: "/messages/$id", params: { id } });
  if (message.data) return <Navigate to="/messages/$id" params={{ id: q }} replace />;
  const busy = asked && (message.isPending || deliveries.loading || messages.loading);
  const error = message.error ?? deliveries.error ?? messages.error;
  const none = !busy && !error && deliveries.items.length === 0 && messages.items.length === 0;
  return (
    <Page title={say("title", { q: plain(q).slice(0, 80) })}>
      {busy && <Loading />}
      {Boolean(error) && <Broken error={error} again={deliveries.again} />}
      {!asked && <Empty title={say("short")} />}
      {asked && none && (
        <Empty title={say("nothing")}>
          <p>{say("nothingWhat")}</p>
          {deliveries.notRecorded.length > 0 && (
            <p>{say("notRecorded", { groups: deliveries.notRecorded.join(", ") })}</p>
          )}
        </Empty>
      )}
      {deliveries.items.length > 0 && (
        <Section title={say("deliveries")}>
          <Table
            name="deliveries"
            label={say("deliveries")}
            columns={deliveryColumns}
            rows={deliveries.items}
            rowKey={(row) => row.id}
            onOpen={(row) => open(row.message_id)}
          />
        </Section>
      )}
      {messages.items.length > 0 && (
        <Section title={say("messages")}>
          <Table
            name="sent"
            label={say("messages")}
            columns={messageColumns}
            rows={messages.items}
            rowKey={(row) => row.id}
            onOpen={(row) => open(row.id)}
          />
        </Section>
      )}
    </Page>
  );
}
