/** Bindings, each as a sentence. */
import { Link } from "@tanstack/react-router";
import type { Group } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
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
            <Mark state={binding.paused || binding.blocked ? "PUSH_FAIL" : "HANDLED"} /> {binding.topics.join(", ")} →{" "}
            <Link to="/plugins/$name" params={{ name: binding.plugin.split("@")[0] ?? binding.plugin }}>
              {binding.plugin}
            </Link>{" "}
            {binding.version && <Id id={binding.version} short={shortVersion(binding.version)} what={say("version")} />}
          </h3>
          <p>{policy(binding, say).join(" · ")}</p>
          {binding.blocked && binding.blocked !== "paused" && (
            <p>
              {say("blocked")}:{" "}
              {binding.blocked === "no_plugin" ? say("noPlugin") : <Raw text={binding.why ?? binding.blocked} />}
            </p>
          )}
          {binding.blocked === "paused" && (
            <p>
              {say("paused")}: <Raw text={binding.why ?? ""} />
            </p>
          )}
        </li>
      ))}
    </ol>
  );
}
