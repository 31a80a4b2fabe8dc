/** One change, whole: what a row of the table has no room for. */
import type { AuditEntry } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Dialog } from "../../ui/Dialog";
import { Id } from "../../ui/Id";
import { Facts } from "../../ui/Page";
import { Raw } from "../../ui/Raw";
import { Time } from "../../ui/Time";
import { words } from "./words";

export function Entry({ entry, onClose }: { entry: AuditEntry; onClose: () => void }) {
  const say = useWords(words);
  const hash = (value: string | null) =>
    value ? <Id id={value} short={value} what={say("hash")} /> : say("unchained");
  return (
    <Dialog open onClose={onClose} wide title={say("entry", { id: entry.id })}>
      <Facts
        of={[
          [say("at"), <Time key="at" at={entry.at} />],
          [say("by"), <Raw key="by" text={entry.by} />],
          [say("action"), entry.action],
          [say("subject"), <Raw key="subject" text={entry.subject} />],
          [say("detail"), <Raw key="detail" text={entry.detail ?? ""} />],
          [say("hash"), hash(entry.hash)],
          [say("previous"), hash(entry.previous)],
        ]}
      />
    </Dialog>
  );
}
