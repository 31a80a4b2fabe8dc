/** Deliveries one by one. */

import { useNavigate } from "@tanstack/react-router";
import type { RowSelectionState } from "@tanstack/react-table";
import { useState } from "react";
import { useList } from "../../api/list";
import type { Delivery } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Table } from "../../ui/Table";
import { words as common } from "../../ui/words";
import { useColumns } from "./columns";
import { RedriveDialog } from "./RedriveDialog";
import { RetryDialog } from "./RetryDialog";
import { words } from "./words";

type Filter = Record<string, string | undefined>;

export function DeliveryList({ filter }: { filter: Filter }) {
  const say = useWords(words);
  const sayCommon = useWords(common);
  const navigate = useNavigate();
  const whyNot = useWhyNot();
  const columns = useColumns();
  const list = useList<Delivery>("deliveries", filter);
  const [chosen, choose] = useState<RowSelectionState>({});
  const [retrying, setRetrying] = useState(false);
  const [redriving, setRedriving] = useState(false);
  const picked = list.items.filter((item) => chosen[item.id]);
  return (
    <>
      <Listing
        list={list}
        empty={
          <Empty title={say("nothing")}>
            <p>{say("nothingWhat")}</p>
          </Empty>
        }
      >
        <Table
          name="deliveries"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.id}
          more={list.more}
          onOpen={(row) => void navigate({ to: "/messages/$id", params: { id: row.message_id } })}
          selection={{ chosen, choose }}
          bar={
            <>
              {picked.length > 0 ? (
                <Button look="main" because={whyNot("operator")} onClick={() => setRetrying(true)}>
                  {say("retrySelected", { n: picked.length })}
                </Button>
              ) : (
                // Without a state it would run again what was handled, too.
                filter["group"] &&
                filter["state"] && (
                  <Button because={whyNot("operator")} onClick={() => setRedriving(true)}>
                    {say("redriveThese")}
                  </Button>
                )
              )}{" "}
              {sayCommon(list.more ? "rowsMore" : "rows", { n: list.items.length })}
            </>
          }
        />
      </Listing>
      <RetryDialog deliveries={picked} open={retrying} onClose={() => setRetrying(false)} onDone={() => choose({})} />
      {redriving && <RedriveDialog filter={filter} onClose={() => setRedriving(false)} />}
    </>
  );
}
