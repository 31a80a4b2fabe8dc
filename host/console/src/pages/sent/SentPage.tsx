/** The sender's page: did it go? */
import { useQueryClient } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import type { RowSelectionState } from "@tanstack/react-table";
import { useState } from "react";
import { change, path } from "../../api/client";
import { useList } from "../../api/list";
import type { Message } from "../../api/shapes";
import { command } from "../../examples";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Confirm } from "../../ui/Dialog";
import { Filters } from "../../ui/Filters";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { Table } from "../../ui/Table";
import { useFilters } from "../shared";
import { useColumns } from "./columns";
import { words } from "./words";

const route = getRouteApi("/sent");
const NAMES = ["state", "topic", "type", "key", "key_base64", "source", "from", "to"] as const;

export default function SentPage() {
  const say = useWords(words);
  const whyNot = useWhyNot();
  const cache = useQueryClient();
  const filter = route.useSearch();
  const navigate = route.useNavigate();
  const filters = useFilters(NAMES, ["SEND_FAIL", "COMMITTED"]);
  const columns = useColumns();
  const list = useList<Message>("messages", filter);
  const [chosen, choose] = useState<RowSelectionState>({});
  const [asking, setAsking] = useState(false);
  const picked = list.items.filter((item) => chosen[item.id] && item.state === "SEND_FAIL");
  const resend = async () => {
    for (const message of picked) await change("POST", path("messages", message.id, "resend"));
    choose({});
    await cache.invalidateQueries({ queryKey: ["messages"] });
  };
  return (
    <Page title={say("title")} lead={say("about")}>
      <Filters
        lead={say("lead")}
        filters={filters}
        values={filter}
        onChange={(next) => void navigate({ search: next })}
      />
      <Listing
        list={list}
        empty={
          <Empty title={say("nothing")}>
            <p>{say("nothingWhat")}</p>
            <pre>{command("publish")}</pre>
          </Empty>
        }
      >
        <Table
          name="sent"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/messages/$id", params: { id: row.id } })}
          selection={{ chosen, choose }}
          bar={
            picked.length > 0 ? (
              <Button look="main" because={whyNot("publisher")} onClick={() => setAsking(true)}>
                {say("resend", { n: picked.length })}
              </Button>
            ) : undefined
          }
        />
      </Listing>
      <Confirm
        open={asking}
        onClose={() => setAsking(false)}
        title={say("resendTitle", { n: picked.length })}
        what={say("resendWhat")}
        act={say("resend", { n: picked.length })}
        onAct={resend}
      />
    </Page>
  );
}
