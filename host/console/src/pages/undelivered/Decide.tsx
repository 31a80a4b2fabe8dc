/** What a person decides about an undelivered message. */
import { useState } from "react";
import { change, path } from "../../api/client";
import type { Undelivered } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Confirm, Field } from "../../ui/Dialog";
import { words } from "./words";

export interface Decision {
  act: "resend" | "give-up";
  entry: Undelivered;
}

interface Props {
  decision: Decision | null;
  onClose: () => void;
  onDone: () => void;
}

export function Decide({ decision, onClose, onDone }: Props) {
  const say = useWords(words);
  const [reason, setReason] = useState("");
  const entry = decision?.entry;
  const resends = decision?.act === "resend";
  const decide = async () => {
    if (!decision) return;
    const options = resends ? {} : { body: { reason: reason.trim() } };
    await change("POST", path("undelivered", decision.entry.id, decision.act), options);
    onDone();
  };
  const names = entry && {
    id: plain(entry.message_id),
    topic: plain(entry.topic ?? say("unread")),
    why: plain(entry.why).slice(0, 200),
  };
  return (
    <Confirm
      open={decision !== null}
      onClose={() => {
        setReason("");
        onClose();
      }}
      title={say(resends ? "resendTitle" : "giveUpTitle")}
      what={names && say(resends ? "resendWhat" : "giveUpWhat", names)}
      act={say(resends ? "resendAct" : "giveUpAct")}
      ready={resends || reason.trim() !== ""}
      onAct={decide}
      audit={{ action: resends ? "resend undelivered" : "give up undelivered" }}
    >
      {!resends && (
        <Field label={say("reason")}>
          {(id) => <input id={id} value={reason} onChange={(event) => setReason(event.target.value)} />}
        </Field>
      )}
    </Confirm>
  );
}
