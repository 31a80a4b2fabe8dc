/** One half message: what it holds, who was asked, and how it ended. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { change, get, path } from "../../api/client";
import type { Transaction } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Count } from "../../ui/Count";
import { Confirm } from "../../ui/Dialog";
import { Copy, Id } from "../../ui/Id";
import { Key } from "../../ui/Key";
import { Broken, Loading } from "../../ui/Notice";
import { Facts, Page, Section } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { Time } from "../../ui/Time";
import css from "./Half.module.css";
import { HalfMark } from "./HalfMark";
import { words } from "./words";

interface Props {
  id: string;
  onClose: () => void;
  onChanged: () => void;
}

export function Half({ id, onClose, onChanged }: Props) {
  const say = useWords(words);
  const whyNot = useWhyNot()("publisher");
  const [ending, end] = useState<"commit" | "rollback" | null>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ["transactions", id],
    queryFn: ({ signal }) => get<Transaction>(path("transactions", id), { signal }),
    refetchInterval: (query) => (query.state.data?.state === "PREPARED" ? 2_000 : false),
  });
  const title = `${say("id")} ${id}`;
  if (!data) {
    return <Page title={title}>{error ? <Broken error={error} again={() => void refetch()} /> : <Loading />}</Page>;
  }
  const n = data.messages.length;
  const run = async () => {
    if (ending) await change("POST", path("transactions", id, ending));
    await refetch();
    onChanged();
  };
  const actions = (
    <>
      <Button look="bare" onClick={onClose}>
        {say("close")}
      </Button>
      {(data.state === "PREPARED" || data.state === "ABANDONED") && (
        <>
          <Button because={whyNot} onClick={() => end("rollback")}>
            {say("rollback")}
          </Button>
          <Button because={whyNot} onClick={() => end("commit")}>
            {say("commit")}
          </Button>
        </>
      )}
    </>
  );
  return (
    <Page
      title={title}
      heading={
        <>
          {plain(title)} <Copy text={id} what="id" />
        </>
      }
      lead={<HalfMark state={data.state} />}
      actions={actions}
    >
      <p className={css["means"]}>{say(`${data.state}_means`)}</p>
      <Facts
        of={[
          [say("created"), <Time key="created" at={data.created_at} />],
          [say("timeout"), data.timeout],
          [say("deadline"), <Time key="deadline" at={data.deadline} />],
          [say("checkUrl"), data.check_url ? <Raw key="url" text={data.check_url} /> : say("noUrl")],
          [say("checks"), <Count key="checks" value={data.checks} />],
          [say("lastAnswer"), <Raw key="answer" text={data.last_answer ?? "–"} />],
          [say("nextCheck"), <Time key="next" at={data.next_check_at} />],
          [say("ended"), <Time key="ended" at={data.ended_at} />],
          [say("reason"), <Raw key="reason" text={data.reason ?? "–"} />],
        ]}
      />
      <Section title={say("messages")}>
        <ul className={css["messages"]}>
          {data.messages.map((message) => (
            <li key={message.id}>
              {data.state === "COMMITTED" ? (
                <Id id={message.id}>
                  <Link to="/messages/$id" params={{ id: message.id }}>
                    {message.id}
                  </Link>
                </Id>
              ) : (
                <Id id={message.id} short={message.id} />
              )}
              <Raw text={message.topic} />
              <Raw text={message.type ?? "–"} />
              <Key of={message} />
            </li>
          ))}
        </ul>
      </Section>
      <Confirm
        open={ending !== null}
        onClose={() => end(null)}
        title={say(ending === "rollback" ? "rollbackTitle" : "commitTitle")}
        what={say(ending === "rollback" ? "rollbackWhat" : "commitWhat", { n })}
        act={say(ending === "rollback" ? "rollbackAct" : "commitAct")}
        onAct={run}
      />
    </Page>
  );
}
