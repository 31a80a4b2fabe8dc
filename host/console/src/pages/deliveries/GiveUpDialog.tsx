/** Ends an open delivery without an attempt, so that its key goes on. */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { change, path } from "../../api/client";
import { keyText } from "../../api/key";
import type { Delivery } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Confirm, Field } from "../../ui/Dialog";
import { words } from "./words";

/** Characters of a reason that the host takes. */
const MAX_REASON = 500;

interface Props {
  delivery: Delivery;
  open: boolean;
  onClose: () => void;
}

export function GiveUpDialog({ delivery, open, onClose }: Props) {
  const say = useWords(words);
  const cache = useQueryClient();
  const [reason, setReason] = useState("");
  const [letter, setLetter] = useState(false);
  const close = () => {
    setReason("");
    setLetter(false);
    onClose();
  };
  const giveUp = async () => {
    const body = { reason: reason.trim(), dead_letter: letter };
    await change("POST", path("deliveries", delivery.id, "give-up"), { body });
    await cache.invalidateQueries({ queryKey: ["deliveries"] });
    await cache.invalidateQueries({ queryKey: ["messages"] });
  };
  return (
    <Confirm
      open={open}
      onClose={close}
      title={say("giveUpTitle")}
      what={say("giveUpWhat", {
        group: delivery.group,
        key: plain(keyText(delivery) ?? delivery.message_id).slice(0, 120),
        place: `${delivery.topic} ${delivery.partition}:${delivery.offset}`,
      })}
      act={say("giveUpAct")}
      ready={reason.trim() !== ""}
      onAct={giveUp}
      audit={{ action: "give up" }}
    >
      <Field label={say("giveUpReason")}>
        {(id) => (
          <input id={id} value={reason} maxLength={MAX_REASON} onChange={(event) => setReason(event.target.value)} />
        )}
      </Field>
      <label>
        <input type="checkbox" checked={letter} onChange={(event) => setLetter(event.target.checked)} />{" "}
        {say("giveUpLetter")}
      </label>
    </Confirm>
  );
}
