/** What a version says it was made for, and what its bindings let it reach. */
import { Link } from "@tanstack/react-router";
import type { Group, Version } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Raw } from "../../ui/Raw";
import css from "./Upload.module.css";
import { made, wants } from "./wants";
import { words } from "./words";

export function Claims({ version }: { version: Version }) {
  const say = useWords(words);
  const { group, topics, types, publishes } = made(version.wants);
  const said: [word: "forGroup" | "forTopics" | "forTypes" | "forPublish", value: string | undefined][] = [
    ["forGroup", group],
    ["forTopics", topics?.join(", ")],
    ["forTypes", types?.join(", ")],
    ["forPublish", publishes?.join(", ")],
  ];
  const known = said.filter(([, value]) => value !== undefined);
  if (known.length === 0) return null;
  return (
    <div className={css["facts"]}>
      {say("madeFor")}
      {known.map(([word, value]) => (
        <span key={word}>
          {say(word)} <Raw text={value ?? ""} />
        </span>
      ))}
    </div>
  );
}

/** The hosts that each binding allows, once a version asks for HTTP at all. */
export function Reach({ name, version, groups }: { name: string; version: Version; groups: Group[] }) {
  const say = useWords(words);
  if (!wants(version.imports).words.includes("http")) return null;
  const allowed = groups.flatMap(({ group, bindings }) =>
    bindings
      .filter((one) => one.plugin.split("@")[0] === name && one.grant.http.length > 0)
      .map((one) => ({ group, hosts: one.grant.http.join(", ") })),
  );
  if (allowed.length === 0) return <div className={css["facts"]}>{say("httpNowhere")}</div>;
  return (
    <div className={css["facts"]}>
      {allowed.map(({ group, hosts }) => (
        <span key={`${group} ${hosts}`}>
          {say("httpTo")} <b>{hosts}</b> {say("inGroup")}{" "}
          <Link to="/groups/$group" params={{ group }}>
            {group}
          </Link>
        </span>
      ))}
    </div>
  );
}
