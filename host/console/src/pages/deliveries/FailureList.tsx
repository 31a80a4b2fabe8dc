/** Failures in clusters: those with one fingerprint stand together. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useList } from "../../api/list";
import type { Failure, State } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import { Button, useWhyNot } from "../../ui/Button";
import { Listing } from "../../ui/Listing";
import { Empty } from "../../ui/Notice";
import { Raw } from "../../ui/Raw";
import { Mark } from "../../ui/State";
import { Time } from "../../ui/Time";
import { ExampleLink } from "./ExampleLink";
import css from "./FailureList.module.css";
import { RedriveDialog } from "./RedriveDialog";
import { words } from "./words";

const REASON = 600;

export function FailureList({ filter }: { filter: Record<string, string | undefined> }) {
  const say = useWords(words);
  const { group, topic, type, from, to } = filter;
  const list = useList<Failure>("failures", { group, topic, type, from, to });
  const [redriving, setRedriving] = useState<Failure | null>(null);
  return (
    <>
      <Listing
        list={list}
        empty={
          <Empty title={say("noFailures")}>
            <p>{say("noFailuresWhat")}</p>
          </Empty>
        }
      >
        <ol className={css["list"]}>
          {list.items.map((failure) => (
            <Cluster
              key={`${failure.group} ${failure.fingerprint}`}
              failure={failure}
              atLeast={list.truncated}
              onRedrive={() => setRedriving(failure)}
            />
          ))}
        </ol>
      </Listing>
      {redriving && (
        <RedriveDialog
          filter={{
            topic,
            type,
            from,
            to,
            group: redriving.group,
            fingerprint: redriving.fingerprint ?? undefined,
            state: stateOf(redriving),
          }}
          onClose={() => setRedriving(null)}
        />
      )}
    </>
  );
}

/** Verdicts of deliveries whose handler never ran: they come back by themselves once it can. */
const NEVER_RAN = ["unavailable", "no_plugin", "instantiate", "no_room", "circuit_open"];

function stateOf(failure: Failure): State {
  return NEVER_RAN.includes(failure.verdict ?? "") ? "PUSH_FAIL" : "HANDLE_FAIL";
}

interface ClusterProps {
  failure: Failure;
  atLeast: boolean;
  onRedrive: () => void;
}

function Cluster({ failure, atLeast, onRedrive }: ClusterProps) {
  const say = useWords(words);
  const whyNot = useWhyNot();
  const { group, fingerprint } = failure;
  return (
    <li className={css["cluster"]}>
      <div className={css["reason"]}>
        <Mark state={stateOf(failure)} />
        <Raw text={(failure.reason ?? failure.verdict ?? "–").slice(0, REASON)} />
      </div>
      <p className={css["facts"]}>
        <b>{say(atLeast ? "more" : "like", { n: failure.count })}</b>
        <span>
          {say("group")}{" "}
          <Link to="/groups/$group" params={{ group }}>
            {group}
          </Link>
        </span>
        <span>{failure.topics.join(", ")}</span>
        {failure.versions.length > 0 && (
          <span>
            {say("versions")} <code>{failure.versions.map(shortVersion).join(", ")}</code>
          </span>
        )}
        <span>
          {say("first")} <Time at={failure.first_at} show="ago" />
        </span>
        <span>
          {say("last")} <Time at={failure.last_at} show="ago" />
        </span>
        {failure.open > 0 && <span>{say("stillOpen", { n: failure.open })}</span>}
      </p>
      <div className={css["actions"]}>
        <ExampleLink delivery={failure.example} />
        <Link to="/deliveries" search={{ group, state: stateOf(failure), fingerprint: fingerprint ?? undefined }}>
          {say("seeList")}
        </Link>
        <Button because={whyNot("operator")} disabled={fingerprint === null} onClick={onRedrive}>
          {say("redrive", { n: failure.count })}
        </Button>
      </div>
    </li>
  );
}
