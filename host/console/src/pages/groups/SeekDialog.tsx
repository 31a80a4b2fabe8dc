/**
 * Moves positions; where they are now is filled in. It is mounted when it opens,
 * so that what is filled in is of that moment and not of when the page loaded.
 */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { change, path } from "../../api/client";
import type { Group } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Confirm, Field } from "../../ui/Dialog";
import { PlaceFields } from "./PlaceFields";
import { seekBody, type Where } from "./seek";
import { words } from "./words";

interface Props {
  group: Group;
  onClose: () => void;
}

const WHERES = ["offset", "earliest", "latest", "time"] as const;

export function SeekDialog({ group, onClose }: Props) {
  const say = useWords(words);
  const cache = useQueryClient();
  const topics = [...new Set(group.bindings.flatMap((binding) => binding.topics))];
  const [topic, setTopic] = useState(topics[0] ?? "");
  const partitions = group.partitions.filter((one) => one.topic === topic);
  const [partition, setPartition] = useState(String(partitions[0]?.partition ?? ""));
  const [where, setWhere] = useState<Where>(partition === "" ? "earliest" : "offset");
  const current = partitions.find((one) => String(one.partition) === partition);
  const [offset, setOffset] = useState(String(current?.position ?? 0));
  const [time, setTime] = useState(() => new Date(Date.now() - 3_600_000).toISOString());
  /** An offset means something in one partition only, so each choice fills it in anew. */
  const chooseTopic = (next: string) => {
    const first = group.partitions.find((one) => one.topic === next);
    setTopic(next);
    setPartition(String(first?.partition ?? ""));
    setOffset(String(first?.position ?? 0));
    if (!first && where === "offset") setWhere("earliest");
  };
  const choosePartition = (next: string) => {
    setPartition(next);
    setOffset(String(partitions.find((one) => String(one.partition) === next)?.position ?? 0));
    if (next === "" && where === "offset") setWhere("earliest");
  };
  const act = async () => {
    // Nothing typed would read as offset zero.
    if (where === "offset" && offset === "") throw new Error(say("noOffset"));
    const body = seekBody({ topic, partition, where, offset, time, confirm: group.group });
    await change("POST", path("groups", group.group, "seek"), { body });
    await cache.invalidateQueries({ queryKey: ["groups"] });
  };
  return (
    <Confirm
      open
      onClose={onClose}
      title={say("seekTitle", { group: group.group })}
      what={say("seekWhat")}
      act={say("seekAct")}
      onAct={act}
      confirm={group.group}
      audit={{ action: "seek", subject: group.group }}
    >
      <PlaceFields
        group={group}
        topics={topics}
        topic={topic}
        partition={partition}
        onTopic={chooseTopic}
        onPartition={choosePartition}
      />
      <Field label={say("to")}>
        {(id) => (
          <select id={id} value={where} onChange={(event) => setWhere(event.target.value as Where)}>
            {WHERES.filter((one) => one !== "offset" || partition !== "").map((one) => (
              <option key={one} value={one}>
                {say(one)}
              </option>
            ))}
          </select>
        )}
      </Field>
      {where === "offset" && (
        <Field label={say("offset")}>
          {(id) => (
            <input
              id={id}
              inputMode="numeric"
              value={offset}
              onChange={(event) => setOffset(event.target.value.replace(/\D/g, ""))}
            />
          )}
        </Field>
      )}
      {where === "time" && (
        <Field label={say("time")}>
          {(id) => <input id={id} value={time} onChange={(event) => setTime(event.target.value)} />}
        </Field>
      )}
    </Confirm>
  );
}
