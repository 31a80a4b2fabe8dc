/** All plugins. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { useList } from "../../api/list";
import type { Plugin } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Id } from "../../ui/Id";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Page } from "../../ui/Page";
import { type Column, Table } from "../../ui/Table";
import { Time } from "../../ui/Time";
import { Upload } from "./Upload";
import { wants } from "./wants";
import { words } from "./words";

export default function PluginsPage() {
  const say = useWords(words);
  const navigate = useNavigate();
  const list = useList<Plugin>("plugins", {});
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
        id: "wants",
        name: say("wants"),
        width: "minmax(160px, 3.4fr)",
        cell: (row) => {
          const version = row.versions.find((one) => one.version === row.active) ?? row.versions[0];
          const uses = wants(version?.imports ?? []).words;
          return uses.length === 0 ? say("nothing") : uses.map((word) => say(word)).join(", ");
        },
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
    [say],
  );
  return (
    <Page title={say("title")} lead={say("about")}>
      <Listing
        list={list}
        empty={
          <Empty title={say("none")}>
            <p>{say("noneWhat")}</p>
            <pre>courier plugin push order-handler order-handler.wasm --activate</pre>
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
