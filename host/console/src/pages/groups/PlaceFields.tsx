/** Which topic of a group and which of its partitions, and where the group is there now. */
import type { Group } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Field } from "../../ui/Dialog";
import { words as common } from "../../ui/words";
import { words } from "./words";

interface Props {
  group: Group;
  topics: string[];
  topic: string;
  /** Its number, or nothing for all. */
  partition: string;
  onTopic: (topic: string) => void;
  onPartition: (partition: string) => void;
}

export function PlaceFields({ group, topics, topic, partition, onTopic, onPartition }: Props) {
  const say = useWords(words);
  const sayCommon = useWords(common);
  const partitions = group.partitions.filter((one) => one.topic === topic);
  const current = partitions.find((one) => String(one.partition) === partition);
  return (
    <>
      <Field label={say("topic")}>
        {(id) => (
          <select id={id} value={topic} onChange={(event) => onTopic(event.target.value)}>
            {topics.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        )}
      </Field>
      <Field label={say("partition")}>
        {(id) => (
          <select id={id} value={partition} onChange={(event) => onPartition(event.target.value)}>
            <option value="">{say("all")}</option>
            {partitions.map((one) => (
              <option key={one.partition}>{one.partition}</option>
            ))}
          </select>
        )}
      </Field>
      {current && <p>{say("seekNow", { position: current.position, end: current.end ?? sayCommon("unknown") })}</p>}
    </>
  );
}
