/** Where no page is, and what a page with a fault shows. */
import { Link } from "@tanstack/react-router";
import { useWords } from "../i18n/context";
import { Broken, Empty } from "../ui/Notice";
import { Page } from "../ui/Page";
import { words } from "./words";

export function Missing() {
  const say = useWords(words);
  return (
    <Page title={say("missing")}>
      <Empty title={window.location.pathname}>
        <Link to="/">{say("home")}</Link>
      </Empty>
    </Page>
  );
}

export function Fault({ error }: { error: unknown }) {
  const say = useWords(words);
  return (
    <Page title={say("crashed")}>
      <Broken error={error} again={() => window.location.reload()} />
    </Page>
  );
}
