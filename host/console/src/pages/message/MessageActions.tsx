/** What a sender can do: resend what failed, cancel what is not due. */
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { change, path } from "../../api/client";
import type { Message } from "../../api/shapes";
import { plain } from "../../format/hostile";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Confirm } from "../../ui/Dialog";
import { words } from "./words";

export function MessageActions({ message }: { message: Message }) {
  const say = useWords(words);
  const whyNot = useWhyNot();
  const cache = useQueryClient();
  const [asking, setAsking] = useState<"resend" | "cancel" | null>(null);
  const act = async (method: "POST" | "DELETE", ...tail: string[]) => {
    await change(method, path("messages", message.id, ...tail));
    await cache.invalidateQueries({ queryKey: ["messages"] });
    await cache.invalidateQueries({ queryKey: ["delayed"] });
  };
  const id = plain(message.id);
  const waits = message.deliver_at !== null && message.partition === null && message.state === "COMMITTED";
  return (
    <>
      {message.state === "SEND_FAIL" && (
        <Button because={whyNot("publisher")} onClick={() => setAsking("resend")}>
          {say("resend")}
        </Button>
      )}
      {waits && (
        <Button because={whyNot("publisher")} onClick={() => setAsking("cancel")}>
          {say("cancel")}
        </Button>
      )}
      <Confirm
        open={asking === "resend"}
        onClose={() => setAsking(null)}
        title={say("resend")}
        what={say("resendWhat", { id, topic: message.topic })}
        act={say("resend")}
        onAct={() => act("POST", "resend")}
        audit={{ action: "resend", subject: message.id }}
      />
      <Confirm
        open={asking === "cancel"}
        onClose={() => setAsking(null)}
        title={say("cancelTitle")}
        what={say("cancelWhat", { id })}
        act={say("cancel")}
        onAct={() => act("DELETE")}
        audit={{ action: "cancel", subject: message.id }}
      />
    </>
  );
}
