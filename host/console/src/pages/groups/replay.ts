/** What a replay asks the host for. */

export type By = "offsets" | "times";

export interface Asked {
  group: string;
  topic: string;
  /** Empty for all of them. */
  partition: string;
  by: By;
  from: string;
  to: string;
}

export type Filter = Record<string, string | number | boolean | undefined>;

/** The filter of a plan; an empty bound is left to the host, which takes all that there is. */
export function replayFilter({ group, topic, partition, by, from, to }: Asked): Filter {
  const filter: Filter = { group, topic, replay: true };
  if (partition !== "") filter["partition"] = Number(partition);
  const bounds = { from: from.trim(), to: to.trim() };
  for (const side of ["from", "to"] as const) {
    if (bounds[side] === "") continue;
    if (by === "times") filter[side] = bounds[side];
    else filter[`${side}_offset`] = Number(bounds[side]);
  }
  return filter;
}

/** Whether the bounds could hold anything. */
export function isSpan({ by, from, to }: Asked): boolean {
  return by === "times" || from === "" || to === "" || Number(from) < Number(to);
}
