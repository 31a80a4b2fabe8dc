/** Bindings, each as a sentence. */
import { Link } from "@tanstack/react-router";
import type { Group } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import css from "./GroupPage.module.css";
import { policy } from "./policy";
import { words } from "./words";

export function Bindings({ group }: { group: Group }) {
  const say = useWords(words);
  return (
    <ol className={css["list"]}>
      {group.bindings.map((binding) => (
        <li key={`${binding.topics.join()} ${binding.plugin}`} className={css["binding"]}>
          <h3>
            <Mark state={binding.paused ? "PUSH_FAIL" : "HANDLED"} /> {binding.topics.join(", ")} →{" "}
            <Link to="/plugins/$name" params={{ name: binding.plugin.split("@")[0] ?? binding.plugin }}>
              {binding.plugin}
            </Link>
          </h3>
          <p>{policy(binding, say).join(" · ")}</p>
          {binding.paused && (
            <p>
              {say("paused")}: <Raw text={binding.why ?? ""} />
            </p>
          )}
        </li>
      ))}
    </ol>
  );
}
