/** A group: how it stands, its policy, its partitions, and what waits in it. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { get, path } from "../../api/client";
import type { Group } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Count } from "../../ui/Count";
import { Broken, Loading, Stale, Strip } from "../../ui/Notice";
import { Facts, Page, Section } from "../../ui/Page";
import { Running } from "../overview/GroupTable";
import { Bindings } from "./Bindings";
import { GroupActions } from "./GroupActions";
import css from "./GroupPage.module.css";
import { Hearers } from "./Hearers";
import { ParkedLanes } from "./ParkedLanes";
import { Partitions } from "./Partitions";
import { Rates } from "./Rates";
import { words } from "./words";

const route = getRouteApi("/groups/$group");
const REFRESH_MS = 2_000;

export default function GroupPage() {
  const say = useWords(words);
  const { group: name } = route.useParams();
  const query = useQuery({
    queryKey: ["groups", "one", name],
    queryFn: ({ signal }) => get<Group>(path("groups", name), { signal }),
    refetchInterval: REFRESH_MS,
  });
  const group = query.data;
  return (
    <Page
      title={name}
      lead={group && <Running state={group.state} why={null} />}
      actions={group && <GroupActions group={group} />}
    >
      <Stale at={query.dataUpdatedAt} error={query.error} />
      {query.isPending && <Loading />}
      {query.error && !group && <Broken error={query.error} again={() => void query.refetch()} />}
      {group && (
        <>
          {group.why && <Strip>{group.why}</Strip>}
          <Facts
            of={[
              [say("handled"), <Count key="handled" value={group.handled} />],
              [say("failed"), <Count key="failed" value={group.failed} />],
              [say("rate"), <Rates key="rate" group={name} what="rate" />],
              [say("times"), <Rates key="times" group={name} what="times" />],
            ]}
          />
          <p className={css["links"]}>
            <Link to="/deliveries" search={{ group: name }}>
              {say("deliveries")}
            </Link>
            <Link to="/deliveries" search={{ group: name, view: "failures" }}>
              {say("failures")}
            </Link>
          </p>
          <Section title={say("bindings")}>
            <Bindings group={group} />
          </Section>
          <Section title={say("partitions")}>
            <Partitions group={group} />
          </Section>
          <Section title={say("parked")}>
            <ParkedLanes group={name} />
          </Section>
          {group.broadcast && group.broadcast.length > 0 && (
            <Section title={say("broadcast")}>
              <Hearers hearers={group.broadcast} />
            </Section>
          )}
        </>
      )}
    </Page>
  );
}
