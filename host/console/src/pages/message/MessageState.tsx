/** How a message stands: one that waits for its time, or was cancelled, is told from one that is or is not on Kafka. */
import type { Message } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Phase } from "../../ui/Phase";
import { State } from "../../ui/State";
import { Time } from "../../ui/Time";
import { words } from "./words";

/** What the host says of a delayed message that somebody took back. */
const CANCELLED = "cancelled";

type Standing = Pick<Message, "state" | "reason" | "retrying" | "partition" | "deliver_at">;

export function MessageState({ message }: { message: Standing }) {
  const say = useWords(words);
  const { state, reason, retrying, partition, deliver_at } = message;
  if (state === "COMMITTED" && deliver_at && partition === null) {
    return (
      <Phase shape="waits">
        {say("delayed")} <Time at={deliver_at} show="ago" />
      </Phase>
    );
  }
  if (state === "SEND_FAIL" && reason === CANCELLED) return <Phase shape="ended">{say("cancelledState")}</Phase>;
  return <State state={state} retrying={retrying} />;
}
