/** An id, shortened, with its whole a click away. */
import { type ReactNode, useEffect, useState } from "react";
import { plain } from "../format/hostile";
import { shortId } from "../format/id";
import { useWords } from "../i18n/context";
import css from "./Id.module.css";
import { words } from "./words";

interface Props {
  id: string;
  /** What it is, for screen readers. */
  what?: string;
  short?: string;
  /** The id as a link, say; without it, its text. */
  children?: ReactNode;
}

export function Copy({ text, what }: { text: string; what: string }) {
  const say = useWords(words);
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_200);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = (event: React.MouseEvent) => {
    event.stopPropagation();
    void navigator.clipboard?.writeText(text).then(() => setCopied(true));
  };
  const name = copied ? say("copied") : say("copy", { what });
  return (
    <button type="button" className={css["copy"]} onClick={copy} aria-label={name} title={name}>
      <svg width="12" height="12" viewBox="0 0 12 12" fill="none" stroke="currentColor" aria-hidden="true">
        {copied ? <path d="M2 6.5l2.5 2.5L10 3" strokeWidth="1.6" /> : <path d="M4 3.5h6.5V11H4zM8 3.5V1H1.5v7.5H4" />}
      </svg>
    </button>
  );
}

export function Id({ id, what = "id", short, children }: Props) {
  return (
    <span className={css["id"]} title={plain(id)}>
      {children ?? plain(short ?? shortId(id))}
      <Copy text={id} what={what} />
    </span>
  );
}
