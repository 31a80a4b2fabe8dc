/** The keys, and how to share what one sees. */
import { Fragment } from "react";
import { useWords } from "../i18n/context";
import { Dialog } from "../ui/Dialog";
import css from "./Shell.module.css";
import { words } from "./words";

const KEYS = [
  ["/", "keySearch"],
  ["↑ ↓", "keyRows"],
  ["Enter", "keyOpen"],
  ["Space", "keySelect"],
  ["Esc", "keyClose"],
  ["?", "keyHelp"],
] as const;

export function Help({ open, onClose }: { open: boolean; onClose: () => void }) {
  const say = useWords(words);
  return (
    <Dialog open={open} onClose={onClose} title={say("help")} what={say("helpAbout")}>
      <dl className={css["keys"]}>
        {KEYS.map(([key, what]) => (
          <Fragment key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{say(what)}</dd>
          </Fragment>
        ))}
      </dl>
    </Dialog>
  );
}
