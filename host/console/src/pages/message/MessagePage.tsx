/** A message and its whole story. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { getText, path } from "../../api/client";
import { isNotRecorded, type Message, type NotRecorded } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { shortId } from "../../format/id";
import { member } from "../../format/json";
import { useWords } from "../../i18n/context";
import { Copy } from "../../ui/Id";
import { Broken, Empty, Loading, Stale } from "../../ui/Notice";
import { Page, Section } from "../../ui/Page";
import { Body } from "./Body";
import { Head } from "./Head";
import { MessageActions } from "./MessageActions";
import { MessageState } from "./MessageState";
import { Timeline } from "./Timeline";
import { words } from "./words";

const route = getRouteApi("/messages/$id");
const REFRESH_MS = 2_000;

interface Read {
  message: Message | NotRecorded;
  /** The body as its sender wrote it, when it is JSON. */
  json: string | null;
}

async function read(id: string, signal: AbortSignal): Promise<Read> {
  const text = await getText(path("messages", id), { signal });
  const message = JSON.parse(text) as Message | NotRecorded;
  if (isNotRecorded(message)) return { message, json: null };
  const json = message.body === null || message.body === undefined ? null : member(text, "body");
  return { message, json };
}

export default function MessagePage() {
  const say = useWords(words);
  const { id } = route.useParams();
  const query = useQuery({
    queryKey: ["messages", "one", id],
    queryFn: ({ signal }) => read(id, signal),
    refetchInterval: REFRESH_MS,
  });
  const title = say("title", { id: shortId(plain(id), 40) });
  if (!query.data) {
    return (
      <Page title={title}>
        {query.error ? <Broken error={query.error} again={() => void query.refetch()} /> : <Loading />}
      </Page>
    );
  }
  const { message, json } = query.data;
  if (isNotRecorded(message)) {
    return (
      <Page title={title}>
        <Empty title={say("notRecorded")}>
          <p>{say("notRecordedWhat", { groups: message.groups.join(", ") })}</p>
        </Empty>
      </Page>
    );
  }
  return (
    <Page
      title={title}
      heading={
        <>
          {title} <Copy text={id} what="id" />
        </>
      }
      lead={<MessageState message={message} />}
      actions={<MessageActions message={message} />}
    >
      <Stale at={query.dataUpdatedAt} error={query.error} />
      <Head message={message} />
      <Section title={say("story")}>
        <Timeline message={message} />
      </Section>
      <Section title={say("body")}>
        <Body message={message} json={json} />
      </Section>
    </Page>
  );
}
