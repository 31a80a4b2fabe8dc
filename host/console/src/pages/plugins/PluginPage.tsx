/** A plugin: its versions, and which is active. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";
import { get, path } from "../../api/client";
import type { Plugin } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Broken, Loading, Stale } from "../../ui/Notice";
import { Page, Section } from "../../ui/Page";
import { useGroups } from "../shared";
import { ActivateDialog } from "./ActivateDialog";
import { Activations } from "./Activations";
import { Upload } from "./Upload";
import css from "./Upload.module.css";
import { VersionRow } from "./VersionRow";
import { words } from "./words";

const route = getRouteApi("/plugins/$name");

export default function PluginPage() {
  const say = useWords(words);
  const { name } = route.useParams();
  const query = useQuery({
    queryKey: ["plugins", "one", name],
    queryFn: ({ signal }) => get<Plugin>(path("plugins", name), { signal }),
    refetchInterval: 5_000,
  });
  const groups = useGroups().data?.items ?? [];
  const bound = groups.filter((group) => group.bindings.some((one) => one.plugin.split("@")[0] === name));
  const [activating, setActivating] = useState<string | null>(null);
  const plugin = query.data;
  return (
    <Page title={name} lead={plugin && (plugin.active ? shortVersion(plugin.active) : say("noActive"))}>
      <Stale at={query.dataUpdatedAt} error={query.error} />
      {query.isPending && <Loading />}
      {query.error && !plugin && <Broken error={query.error} again={() => void query.refetch()} />}
      {plugin && (
        <>
          {bound.length > 0 && (
            <p>
              {say("boundBy")}{" "}
              {bound.map((group) => (
                <span key={group.group}>
                  <Link to="/groups/$group" params={{ group: group.group }}>
                    {group.group}
                  </Link>{" "}
                </span>
              ))}
            </p>
          )}
          {plugin.comes_with_host && <p>{say("withHostWhat")}</p>}
          <Section title={say("versions")}>
            <ol className={css["list"]}>
              {plugin.versions.map((version) => (
                <VersionRow
                  key={version.version}
                  plugin={plugin}
                  version={version}
                  groups={bound}
                  onActivate={() => setActivating(version.version)}
                />
              ))}
            </ol>
          </Section>
          <Section title={say("history")}>
            <Activations plugin={plugin} />
          </Section>
          <Section title={say("upload")}>
            <Upload name={name} />
          </Section>
          <ActivateDialog plugin={plugin} version={activating} onClose={() => setActivating(null)} />
        </>
      )}
    </Page>
  );
}
