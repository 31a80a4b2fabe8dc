/** One version of a plugin. */
import type { Group, Plugin, Version } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { bytes } from "../../format/number";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Id } from "../../ui/Id";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { Time } from "../../ui/Time";
import { Claims, Reach } from "./Claims";
import css from "./Upload.module.css";
import { wants } from "./wants";
import { words } from "./words";

interface Props {
  plugin: Plugin;
  version: Version;
  /** For what their bindings allow. */
  groups: Group[];
  onActivate: () => void;
}

export function VersionRow({ plugin, version, groups, onActivate }: Props) {
  const say = useWords(words);
  const whyNot = useWhyNot();
  const active = plugin.active === version.version;
  const activation = plugin.activations.find((one) => one.version === version.version);
  const older = plugin.versions.findIndex((one) => one.version === plugin.active);
  const rollback = older >= 0 && plugin.versions.indexOf(version) > older;
  const uses = wants(version.imports);
  return (
    <li className={css["version"]} data-version={version.version}>
      <div className={css["facts"]}>
        {active && <Mark state="HANDLED" />}
        <Id id={version.version} short={shortVersion(version.version)} what={say("version")} />
        <span>
          {active ? say("isActive") : say(activation ? "before" : "never")}{" "}
          {activation && <Time at={activation.at} show={active ? "both" : "ago"} />}
        </span>
        <span>{bytes(version.size)}</span>
        <span>
          {say("by")} <Raw text={version.by} /> <Time at={version.created_at} show="ago" />
        </span>
      </div>
      <div>
        {!active && (
          <Button because={whyNot("admin")} onClick={onActivate}>
            {say(rollback ? "rollback" : "activate")}
          </Button>
        )}
      </div>
      <div className={css["facts"]}>
        {[...uses.words.map((word) => say(word)), say("always")].join(" · ")}
        {uses.other.length > 0 && <Raw text={say("other", { list: uses.other.join(", ") })} />}
      </div>
      <Claims version={version} />
      <Reach name={plugin.name} version={version} groups={groups} />
      <details>
        <summary>
          {say("imports")} ({version.imports.length}), {say("exports")} ({version.exports.length})
        </summary>
        <ul>
          {[...version.imports, ...version.exports].map((name) => (
            <li key={name}>
              <Raw text={name} />
            </li>
          ))}
        </ul>
      </details>
    </li>
  );
}
