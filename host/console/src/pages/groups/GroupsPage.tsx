/** All groups. */
import { useQuery } from "@tanstack/react-query";
import { get, path } from "../../api/client";
import type { Overview } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Broken, Empty, Loading, Stale } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { GroupTable } from "../overview/GroupTable";
import { words } from "./words";

const LINES = `[[binding]]
group = "stock"
topics = ["order"]
plugin = "order-handler"`;

export default function GroupsPage() {
  const say = useWords(words);
  const query = useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => get<Overview>(path("overview"), { signal }),
    refetchInterval: 5_000,
  });
  const groups = query.data?.groups;
  return (
    <Page title={say("title")} lead={say("about")}>
      <Stale at={query.dataUpdatedAt} error={query.error} />
      {query.isPending && <Loading />}
      {query.error && !groups && <Broken error={query.error} again={() => void query.refetch()} />}
      {groups?.length === 0 && (
        <Empty title={say("none")}>
          <p>{say("noneWhat")}</p>
          <pre>{LINES}</pre>
        </Empty>
      )}
      {groups && groups.length > 0 && <GroupTable groups={groups} />}
    </Page>
  );
}
