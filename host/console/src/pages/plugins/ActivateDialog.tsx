/** Makes another version the active one. */
import { useQueryClient } from "@tanstack/react-query";
import { change, path } from "../../api/client";
import type { Plugin } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Confirm } from "../../ui/Dialog";
import { words } from "./words";

interface Props {
  plugin: Plugin;
  version: string | null;
  onClose: () => void;
}

export function ActivateDialog({ plugin, version, onClose }: Props) {
  const say = useWords(words);
  const cache = useQueryClient();
  const short = shortVersion(version ?? "");
  const activate = async () => {
    await change("POST", path("plugins", plugin.name, "activate"), { body: { version } });
    await cache.invalidateQueries({ queryKey: ["plugins"] });
  };
  return (
    <Confirm
      open={version !== null}
      onClose={onClose}
      title={say("activateTitle", { version: short, name: plugin.name })}
      what={say("activateWhat", {
        version: short,
        before: plugin.active ? shortVersion(plugin.active) : say("noActive"),
      })}
      act={say("activate")}
      onAct={activate}
      audit={{ action: "activate", subject: plugin.name }}
    />
  );
}
