/** Runs one or some deliveries again. */
import { useQueryClient } from "@tanstack/react-query";
import { change, path } from "../../api/client";
import { keyText } from "../../api/key";
import type { Delivery } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Confirm } from "../../ui/Dialog";
import { words } from "./words";

interface Props {
  deliveries: Delivery[];
  open: boolean;
  onClose: () => void;
  onDone?: () => void;
}

export function RetryDialog({ deliveries, open, onClose, onDone }: Props) {
  const say = useWords(words);
  const cache = useQueryClient();
  const one = deliveries.length === 1 ? deliveries[0] : undefined;
  const run = async () => {
    // One after another: the order of a lane is the order of asking.
    for (const delivery of deliveries) await change("POST", path("deliveries", delivery.id, "retry"));
    await cache.invalidateQueries({ queryKey: ["deliveries"] });
    await cache.invalidateQueries({ queryKey: ["messages"] });
    onDone?.();
  };
  const what = one
    ? say("retryWhat", {
        group: one.group,
        key: plain(keyText(one) ?? one.message_id).slice(0, 120),
        place: `${one.topic} ${one.partition}:${one.offset}`,
        n: (one.attempts.at(-1)?.number ?? 0) + 1,
      })
    : say("retryManyWhat");
  return (
    <Confirm
      open={open}
      onClose={onClose}
      title={one ? say("retryTitle") : say("retryMany", { n: deliveries.length })}
      what={what}
      act={one ? say("retryAct") : say("retrySelected", { n: deliveries.length })}
      onAct={run}
      audit={{ action: "retry" }}
    />
  );
}
