/** Text that a stranger wrote, shown as nothing but text. */
import { pieces } from "../format/hostile";
import css from "./Raw.module.css";

export function Raw({ text, className = "" }: { text: string; className?: string | undefined }) {
  return (
    <bdi className={`${css["raw"]} ${className}`}>
      {pieces(text).map((piece, at) =>
        "text" in piece ? (
          piece.text
        ) : (
          <span key={at} className={css["code"]}>
            {piece.code}
          </span>
        ),
      )}
    </bdi>
  );
}
