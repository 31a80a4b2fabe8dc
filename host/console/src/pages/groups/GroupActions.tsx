/** Pause, resume, move positions. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { change, path } from "../../api/client";
import type { Group } from "../../api/shapes";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Confirm, Field } from "../../ui/Dialog";
import { words as common } from "../../ui/words";
import { ReplayDialog } from "./ReplayDialog";
import { SeekDialog } from "./SeekDialog";
import { words } from "./words";

export function GroupActions({ group }: { group: Group }) {
  const say = useWords(words);
  const sayCommon = useWords(common);
  const because = useWhyNot()("operator");
  const cache = useQueryClient();
  const [asking, setAsking] = useState<"pause" | "resume" | "seek" | "replay" | null>(null);
  const [why, setWhy] = useState("");
  const close = () => {
    setAsking(null);
    setWhy("");
  };
  const act = async (what: "pause" | "resume", body: unknown) => {
    await change("POST", path("groups", group.group, what), { body });
    await cache.invalidateQueries({ queryKey: ["groups"] });
    await cache.invalidateQueries({ queryKey: ["overview"] });
  };
  const nobody = group.state === "not_bound" ? say("notBound") : null;
  // A plugin without an active version is what keeps such a group from running.
  const missing = group.bindings.find((one) => one.blocked === "no_plugin")?.plugin.split("@")[0];
  const lags = group.partitions.map((partition) => partition.lag);
  const lag = lags.some((one) => one === null) ? null : lags.reduce<number>((sum, one) => sum + (one ?? 0), 0);
  return (
    <>
      {missing && (
        <Link to="/plugins/$name" params={{ name: missing }}>
          {say("upload", { plugin: missing })}
        </Link>
      )}
      {group.state === "paused" && (
        <Button because={because} onClick={() => setAsking("resume")}>
          {say("resume")}
        </Button>
      )}
      {(group.state === "running" || group.state === "cannot_run") && (
        <Button because={because} onClick={() => setAsking("pause")}>
          {say("pause")}
        </Button>
      )}
      <Button because={because ?? nobody} onClick={() => setAsking("seek")}>
        {say("seek")}
      </Button>
      <Button because={because ?? nobody} onClick={() => setAsking("replay")}>
        {say("replay")}
      </Button>
      <Confirm
        open={asking === "pause"}
        onClose={close}
        title={say("pauseTitle", { group: group.group })}
        what={say("pauseWhat", { n: lag ?? sayCommon("unknown") })}
        act={say("pause")}
        audit={{ action: "pause", subject: group.group }}
        onAct={() => act("pause", why.trim() ? { why: why.trim() } : {})}
      >
        <Field label={say("why")}>
          {(id) => <input id={id} value={why} maxLength={500} onChange={(event) => setWhy(event.target.value)} />}
        </Field>
      </Confirm>
      <Confirm
        open={asking === "resume"}
        onClose={close}
        title={say("resumeTitle", { group: group.group })}
        what={say("resumeWhat", { why: group.why ?? sayCommon("unknown") })}
        act={say("resume")}
        audit={{ action: "resume", subject: group.group }}
        onAct={() => act("resume", {})}
      />
      {asking === "seek" && <SeekDialog group={group} onClose={close} />}
      {asking === "replay" && <ReplayDialog group={group} onClose={close} />}
    </>
  );
}
