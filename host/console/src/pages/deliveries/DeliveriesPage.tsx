/** The receiver's page: what became of messages, group by group. */
import { getRouteApi } from "@tanstack/react-router";
import type { State } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Filters } from "../../ui/Filters";
import { Page } from "../../ui/Page";
import { Tabs } from "../../ui/Tabs";
import { useFilters } from "../shared";
import { DeliveryList } from "./DeliveryList";
import { FailureList } from "./FailureList";
import { words } from "./words";

const route = getRouteApi("/deliveries");
const LIST = [
  "state",
  "group",
  "topic",
  "type",
  "key",
  "key_base64",
  "fingerprint",
  "message_id",
  "from",
  "to",
] as const;
const FAILURES = ["group", "topic", "type", "from", "to"] as const;
const STATES: readonly State[] = ["HANDLE_FAIL", "PUSH_FAIL", "HANDLED", "COMMITTED"];

export default function DeliveriesPage() {
  const say = useWords(words);
  const { view, ...filter } = route.useSearch();
  const navigate = route.useNavigate();
  const failures = view === "failures";
  const filters = useFilters(failures ? FAILURES : LIST, STATES);
  return (
    <Page title={say("title")} lead={say("about")}>
      <Tabs
        label={say("title")}
        value={failures ? "failures" : "list"}
        onChange={(next) => void navigate({ search: { ...filter, view: next === "failures" ? next : undefined } })}
        tabs={[
          { value: "list", name: say("list"), content: null },
          { value: "failures", name: say("failures"), content: null },
        ]}
      />
      <Filters
        lead={failures ? say("failures") : say("lead")}
        filters={filters}
        values={filter}
        onChange={(next) => void navigate({ search: { ...next, view } })}
      />
      {failures ? <FailureList filter={filter} /> : <DeliveryList filter={filter} />}
    </Page>
  );
}
