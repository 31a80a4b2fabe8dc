/** What a seek asks the host for. */

export type Where = "offset" | "earliest" | "latest" | "time";

export interface Asked {
  topic: string;
  /** Empty for all of them. */
  partition: string;
  where: Where;
  offset: string;
  time: string;
  confirm: string;
}

export function seekBody(asked: Asked): Record<string, unknown> {
  const targets: Record<Where, string | number> = {
    offset: Number(asked.offset),
    earliest: "earliest",
    latest: "latest",
    time: asked.time.trim(),
  };
  const partition = asked.partition === "" ? {} : { partition: Number(asked.partition) };
  return { topic: asked.topic, ...partition, to: targets[asked.where], confirm: asked.confirm };
}
