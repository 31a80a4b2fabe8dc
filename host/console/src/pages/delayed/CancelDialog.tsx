/** Takes a delayed message back. */
import { change, path } from "../../api/client";
import type { Message } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Confirm } from "../../ui/Dialog";
import { words } from "./words";

interface Props {
  message: Message | null;
  onClose: () => void;
  onDone: () => void;
}

export function CancelDialog({ message, onClose, onDone }: Props) {
  const say = useWords(words);
  const cancel = async () => {
    if (message) await change("DELETE", path("messages", message.id));
    onDone();
  };
  return (
    <Confirm
      open={message !== null}
      onClose={onClose}
      title={say("cancelTitle")}
      what={message && say("cancelWhat", { id: plain(message.id), topic: plain(message.topic) })}
      act={say("cancelAct")}
      onAct={cancel}
    />
  );
}
