/** A redrive's filter as a sentence. */
import { Fragment } from "react";
import { Raw } from "../ui/Raw";
import { usePhrases } from "./shared";

export function Sentence({ filter }: { filter: Record<string, unknown> }) {
  const { phrases, between } = usePhrases(filter);
  return (
    <span>
      {phrases.map(({ name, before, value, after }, at) => (
        <Fragment key={name}>
          {at > 0 && between}
          {before}
          <b>
            <Raw text={value} />
          </b>
          {after}
        </Fragment>
      ))}
    </span>
  );
}
