/** A redrive: its plan is shown before anything runs. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { change, path } from "../../api/client";
import { keyText } from "../../api/key";
import type { Redrive } from "../../api/shapes";
import { bound } from "../../format/time";
import { useWords } from "../../i18n/context";
import { Button } from "../../ui/Button";
import { Dialog, Field, Refusal } from "../../ui/Dialog";
import { Loading } from "../../ui/Notice";
import { Raw } from "../../ui/Raw";
import { State } from "../../ui/State";
import { tell } from "../../ui/Told";
import { words as common } from "../../ui/words";
import { Sentence } from "../Sentence";
import css from "./RedriveDialog.module.css";
import { words } from "./words";

const RATE = 500;

interface Props {
  filter: Record<string, string | number | boolean | undefined>;
  onClose: () => void;
}

async function plan(filter: Props["filter"], rate: number): Promise<Redrive> {
  const now = Date.now();
  const known = Object.entries(filter).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, name === "from" || name === "to" ? bound(String(value), now) : value]],
  );
  return change<Redrive>("POST", path("redrives"), { body: { filter: Object.fromEntries(known), rate } });
}

export function RedriveDialog({ filter, onClose }: Props) {
  const say = useWords(words);
  const sayCommon = useWords(common);
  const cache = useQueryClient();
  const navigate = useNavigate();
  const [rate, setRate] = useState(RATE);
  const [error, setError] = useState<unknown>(null);
  // Planning writes a row, so it is done once for each rate, never in the background.
  const planned = useQuery({
    queryKey: ["plan", filter, rate],
    queryFn: () => plan(filter, rate),
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    retry: false,
    refetchOnWindowFocus: false,
  });
  // A plan that nobody wants any more is cancelled; one that stays is harmless.
  const forget = () => {
    if (planned.data) void change("DELETE", path("redrives", planned.data.id)).catch(() => {});
  };
  const drop = () => {
    forget();
    onClose();
  };
  const changeRate = (next: number) => {
    if (next !== rate) forget();
    setRate(next);
  };
  const matched = planned.data?.matched ?? 0;
  const run = async () => {
    if (!planned.data) return;
    try {
      await change("POST", path("redrives", planned.data.id, "run"));
      await cache.invalidateQueries({ queryKey: ["redrives"] });
      await navigate({ to: "/redrives/$id", params: { id: planned.data.id } });
      tell({ what: say("run", { n: matched, rate }), audit: { action: "run redrive", subject: planned.data.id } });
    } catch (thrown) {
      setError(thrown);
    }
  };
  const foot = (
    <>
      <Button onClick={drop}>{sayCommon("cancel")}</Button>
      <Button look="main" disabled={matched === 0} onClick={() => void run()}>
        {say("run", { n: matched, rate })}
      </Button>
    </>
  );
  return (
    <Dialog open onClose={drop} title={say("planTitle")} wide foot={foot} what={<Sentence filter={filter} />}>
      {planned.isPending && <Loading />}
      {planned.data && <p>{matched === 0 ? say("planNone") : say("plan", { n: matched })}</p>}
      {planned.data?.sample && planned.data.sample.length > 0 && (
        <div className={css["sample"]}>
          <h3>{say("sample")}</h3>
          {planned.data.sample.slice(0, 5).map((delivery) => (
            <div key={delivery.id} className={css["row"]}>
              <State state={delivery.state} />
              <Raw text={(keyText(delivery) ?? delivery.message_id).slice(0, 60)} />
              <Raw text={(delivery.reason ?? "").slice(0, 160)} className={css["why"]} />
            </div>
          ))}
        </div>
      )}
      <Field label={say("rate")}>{(id) => <Rate id={id} value={rate} onSet={changeRate} />}</Field>
      <Refusal error={error ?? planned.error} />
    </Dialog>
  );
}

function Rate({ id, value, onSet }: { id: string; value: number; onSet: (value: number) => void }) {
  const [typed, setTyped] = useState(String(value));
  const keep = () => {
    const next = Math.round(Number(typed));
    if (next > 0) onSet(next);
    else setTyped(String(value));
  };
  return (
    <input
      id={id}
      inputMode="numeric"
      value={typed}
      onChange={(event) => setTyped(event.target.value.replace(/\D/g, ""))}
      onBlur={keep}
    />
  );
}
