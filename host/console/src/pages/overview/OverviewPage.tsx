/** What happens now, and what needs a person. */
import { useQuery } from "@tanstack/react-query";
import { get, path } from "../../api/client";
import { useLive } from "../../api/live";
import type { Open, Overview } from "../../api/shapes";
import { command } from "../../examples";
import { useWords } from "../../i18n/context";
import { Chart } from "../../ui/Chart";
import { Broken, Empty, Loading, Stale } from "../../ui/Notice";
import { Page, Section } from "../../ui/Page";
import { NodeTable } from "../nodes/NodeTable";
import { Attentions } from "./Attentions";
import { GroupTable } from "./GroupTable";
import { OpenNow } from "./OpenNow";
import css from "./OverviewPage.module.css";
import { words } from "./words";

const REFRESH_MS = 5_000;
const BINDING = `[[binding]]
group = "stock"
topics = ["order"]
plugin = "order-handler"`;

/** The totals of the last second when they are at hand, else those of the reading. */
function useOpen(overview: Overview): Open {
  const { counters } = useLive();
  if (!counters) return overview.open;
  const sum = (name: keyof Open) => counters.groups.reduce((total, group) => total + group[name], 0);
  return { waiting: sum("waiting"), push_fail: sum("push_fail"), retrying: sum("retrying"), held: sum("held") };
}

export default function OverviewPage() {
  const say = useWords(words);
  const query = useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => get<Overview>(path("overview"), { signal }),
    refetchInterval: REFRESH_MS,
  });
  return (
    <Page title={say("title")}>
      {query.isPending && <Loading />}
      {query.error && !query.data && <Broken error={query.error} again={() => void query.refetch()} />}
      <Stale at={query.dataUpdatedAt} error={query.error} />
      {query.data && <Shown overview={query.data} />}
    </Page>
  );
}

function Shown({ overview }: { overview: Overview }) {
  const say = useWords(words);
  const open = useOpen(overview);
  const times = overview.minutes.map((minute) => Date.parse(minute.time) / 1_000);
  const of = (name: "published" | "send_fail" | "handled" | "failed" | "given_up") =>
    overview.minutes.map((minute) => minute[name]);
  return (
    <>
      <Attentions items={overview.attention} />
      <div className={css["now"]}>
        <Section title={say("perMinute")}>
          <Chart
            label={say("perMinute")}
            times={times}
            series={[
              { name: say("published"), colour: "--committed", values: of("published") },
              { name: say("handled"), colour: "--handled", values: of("handled") },
              { name: say("failed"), colour: "--push-fail", dash: [6, 3], values: of("failed") },
              { name: say("given_up"), colour: "--handle-fail", values: of("given_up") },
              { name: say("send_fail"), colour: "--send-fail", dash: [2, 3], values: of("send_fail") },
            ]}
          />
        </Section>
        <Section title={say("open")}>
          <OpenNow open={open} lag={overview.lag} />
        </Section>
      </div>
      <Section title={say("groups")}>
        {overview.groups.length === 0 ? (
          <Empty title={say("noGroups")}>
            <p>{say("noGroupsWhat")}</p>
            <pre>{BINDING}</pre>
            <p>{say("noGroupsThen")}</p>
            <pre>{`${command("push")}\n${command("publish")}`}</pre>
          </Empty>
        ) : (
          <GroupTable groups={overview.groups} />
        )}
      </Section>
      <Section title={say("nodes")}>
        <NodeTable nodes={overview.nodes} />
      </Section>
    </>
  );
}
