/**
 * Replays a range of records, also those that were handled or that the store
 * has forgotten. The range is asked for here; then the plan is shown, and
 * nothing runs before somebody has seen it. Positions stay where they are.
 */
import { useState } from "react";
import type { Group } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Button } from "../../ui/Button";
import { Dialog, Field } from "../../ui/Dialog";
import { words as common } from "../../ui/words";
import { RedriveDialog } from "../deliveries/RedriveDialog";
import { PlaceFields } from "./PlaceFields";
import { type Asked, type By, isSpan, replayFilter } from "./replay";
import { words } from "./words";

interface Props {
  group: Group;
  onClose: () => void;
}

export function ReplayDialog({ group, onClose }: Props) {
  const say = useWords(words);
  const sayCommon = useWords(common);
  const topics = [...new Set(group.partitions.map((one) => one.topic))];
  const [topic, setTopic] = useState(topics[0] ?? "");
  const partitions = group.partitions.filter((one) => one.topic === topic);
  const [partition, setPartition] = useState(String(partitions[0]?.partition ?? ""));
  const [by, setBy] = useState<By>("offsets");
  const current = partitions.find((one) => String(one.partition) === partition);
  const [from, setFrom] = useState("");
  const [to, setTo] = useState(String(current?.position ?? ""));
  const [planning, plan] = useState(false);
  /** Bounds mean something in one partition or in time only, so each choice fills them in anew. */
  const choose = (nextTopic: string, nextPartition: string, nextBy: By) => {
    const one = nextPartition === "" ? "times" : nextBy;
    const at = group.partitions.find((each) => each.topic === nextTopic && String(each.partition) === nextPartition);
    setTopic(nextTopic);
    setPartition(nextPartition);
    setBy(one);
    setFrom(one === "times" ? "1h" : "");
    setTo(one === "times" ? "" : String(at?.position ?? ""));
  };
  const asked: Asked = { group: group.group, topic, partition, by, from, to };
  if (planning) return <RedriveDialog filter={replayFilter(asked)} onClose={onClose} />;
  const digits = (text: string) => (by === "offsets" ? text.replace(/\D/g, "") : text);
  const hints =
    by === "offsets" ? { from: say("fromStart"), to: say("toPosition") } : { from: "24h", to: say("toNow") };
  const foot = (
    <>
      <Button onClick={onClose}>{sayCommon("cancel")}</Button>
      <Button look="main" disabled={topic === "" || !isSpan(asked)} onClick={() => plan(true)}>
        {say("replayPlan")}
      </Button>
    </>
  );
  return (
    <Dialog
      open
      onClose={onClose}
      title={say("replayTitle", { group: group.group })}
      what={say("replayWhat")}
      foot={foot}
    >
      <PlaceFields
        group={group}
        topics={topics}
        topic={topic}
        partition={partition}
        onTopic={(next) =>
          choose(next, String(group.partitions.find((one) => one.topic === next)?.partition ?? ""), by)
        }
        onPartition={(next) => choose(topic, next, by)}
      />
      <Field label={say("range")}>
        {(id) => (
          <select id={id} value={by} onChange={(event) => choose(topic, partition, event.target.value as By)}>
            {partition !== "" && <option value="offsets">{say("byOffsets")}</option>}
            <option value="times">{say("byTimes")}</option>
          </select>
        )}
      </Field>
      <Field label={say(by === "offsets" ? "fromOffset" : "fromTime")}>
        {(id) => (
          <input
            id={id}
            value={from}
            placeholder={hints.from}
            onChange={(event) => setFrom(digits(event.target.value))}
          />
        )}
      </Field>
      <Field label={say(by === "offsets" ? "toOffset" : "toTime")}>
        {(id) => (
          <input id={id} value={to} placeholder={hints.to} onChange={(event) => setTo(digits(event.target.value))} />
        )}
      </Field>
    </Dialog>
  );
}
