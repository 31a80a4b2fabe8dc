/** All plugins. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { useList } from "../../api/list";
import type { Group, Plugin } from "../../api/shapes";
import { command } from "../../examples";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { useGroups } from "../shared";
import { Upload } from "./Upload";
import { words } from "./words";

const NO_GROUPS: Group[] = [];

export default function PluginsPage() {
  const say = useWords(words);
  const navigate = useNavigate();
  const list = useList<Plugin>("plugins", {});
  const groups = useGroups().data?.items ?? NO_GROUPS;
  const columns = useMemo<Column<Plugin>[]>(
    () => [
      {
        id: "name",
        name: say("name"),
        width: "minmax(110px, 1.2fr)",
        narrow: true,
        cell: (row) => (
          <Link to="/plugins/$name" params={{ name: row.name }}>
            {row.name}
          </Link>
        ),
      },
      {
        id: "active",
        name: say("active"),
        width: "minmax(96px, 1fr)",
        narrow: true,
        cell: (row) =>
          row.active ? <Id id={row.active} short={shortVersion(row.active)} what={say("version")} /> : say("noActive"),
      },
      {
        id: "since",
        name: say("since"),
        width: "88px",
        cell: (row) => <Time at={row.activations[0]?.at} show="ago" />,
      },
      {
        id: "boundBy",
        name: say("boundBy"),
        width: "minmax(110px, 1.6fr)",
        cell: (row) => {
          const by = groups.filter(({ bindings }) => bindings.some((one) => one.plugin.split("@")[0] === row.name));
          return by.length === 0 ? say("notBound") : by.map(({ group }) => group).join(", ");
        },
      },
      {
        id: "uploadedBy",
        name: say("by"),
        width: "minmax(90px, 1fr)",
        cell: (row) =>
          row.comes_with_host
            ? say("withHost")
            : ((row.versions.find((one) => one.version === row.active) ?? row.versions[0])?.by ?? "–"),
      },
      {
        id: "versions",
        name: say("versions"),
        width: "72px",
        right: true,
        narrow: true,
        cell: (row) => row.versions.length,
      },
    ],
    [say, groups],
  );
  return (
    <Page title={say("title")} lead={say("about")}>
      <Listing
        list={list}
        empty={
          <Empty title={say("none")}>
            <p>{say("noneWhat")}</p>
            <pre>{command("push")}</pre>
          </Empty>
        }
      >
        <Table
          name="plugins"
          label={say("title")}
          columns={columns}
          rows={list.items}
          rowKey={(row) => row.name}
          onOpen={(row) => void navigate({ to: "/plugins/$name", params: { name: row.name } })}
        />
      </Listing>
      <Upload onDone={(name) => void navigate({ to: "/plugins/$name", params: { name } })} />
    </Page>
  );
}
