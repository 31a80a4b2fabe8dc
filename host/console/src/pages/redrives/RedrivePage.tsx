/** One redrive: its progress, what can be done about it, and a result per item. */
import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useState } from "react";
import { change, get, path } from "../../api/client";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Count } from "../../ui/Count";
import { Confirm, Refusal } from "../../ui/Dialog";
import { Broken, Loading, Strip } from "../../ui/Notice";
import { Facts, Page, Section } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { Time } from "../../ui/Time";
import { Sentence } from "../Sentence";
import { Items } from "./Items";
import { Progress } from "./Progress";
import { RedriveMark } from "./RedriveMark";
import { isOver, open, type Redrive, type RedriveState } from "./shapes";
import { words } from "./words";

export default function RedrivePage() {
  const say = useWords(words);
  const whyNot = useWhyNot()("operator");
  const { id } = useParams({ from: "/redrives/$id" });
  const [cancelling, cancel] = useState(false);
  const [refused, setRefused] = useState<unknown>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ["redrives", id],
    queryFn: ({ signal }) => get<Redrive>(path("redrives", id), { signal }),
    refetchInterval: (query) => (query.state.data && isOver(query.state.data) ? false : 1_000),
  });
  const title = `${say("id")} #${id}`;
  if (!data) {
    return <Page title={title}>{error ? <Broken error={error} again={() => void refetch()} /> : <Loading />}</Page>;
  }
  const tell = async (word: "run" | "pause") => {
    setRefused(null);
    try {
      await change("POST", path("redrives", id, word));
    } catch (thrown) {
      setRefused(thrown);
    }
    await refetch();
  };
  const actions = !isOver(data) && (
    <>
      <Button look="bare" because={whyNot} onClick={() => cancel(true)}>
        {say("cancel")}
      </Button>
      {data.state === "RUNNING" ? (
        <Button because={whyNot} onClick={() => void tell("pause")}>
          {say("pause")}
        </Button>
      ) : (
        <Button look="main" because={whyNot} onClick={() => void tell("run")}>
          {say(data.state === "PAUSED" ? "goOn" : "run")}
        </Button>
      )}
    </>
  );
  return (
    <Page title={title} lead={<RedriveMark state={data.state as RedriveState} />} actions={actions}>
      <Refusal error={refused} />
      <Progress of={data} />
      {data.why && <Strip>{data.why}</Strip>}
      {data.truncated && <Strip>{say("truncated")}</Strip>}
      <Facts
        of={[
          [say("group"), <Raw key="group" text={data.group} />],
          [say("filter"), <Sentence key="filter" filter={data.filter as Record<string, unknown>} />],
          [say("rate"), say("aSecond", { n: data.rate })],
          [say("handled"), <Count key="handled" value={data.handled} />],
          [say("failed"), <Count key="failed" value={data.failed} />],
          [say("skipped"), <Count key="skipped" value={data.skipped} />],
          [say("under"), <Count key="under" value={data.running} />],
          [say("by"), <Raw key="by" text={data.by} />],
          [say("created"), <Time key="created" at={data.created_at} />],
          [say("started"), <Time key="started" at={data.started_at} />],
          [say("finished"), <Time key="finished" at={data.finished_at} />],
          [say("node"), data.node ?? "–"],
        ]}
      />
      <Section title={say("items")}>
        <Items id={id} />
      </Section>
      <Confirm
        open={cancelling}
        onClose={() => cancel(false)}
        title={say("cancelTitle")}
        what={say("cancelWhat", { n: open(data) })}
        act={say("cancelAct")}
        audit={{ action: "cancel redrive", subject: id }}
        onAct={async () => {
          await change("DELETE", path("redrives", id));
          await refetch();
        }}
      />
    </Page>
  );
}
