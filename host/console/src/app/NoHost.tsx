/** What is shown when the host cannot even say who looks. */
import { useWords } from "../i18n/context";
import { Broken, Empty } from "../ui/Notice";
import { Page } from "../ui/Page";
import { words } from "./words";

export function NoHost({ error, again }: { error: unknown; again: () => void }) {
  const say = useWords(words);
  return (
    <Page title={say("noHost")}>
      <Empty title={say("noHostWhat")} />
      <Broken error={error} again={again} />
    </Page>
  );
}
