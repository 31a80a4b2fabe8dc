/** A body: as JSON with its sender's own digits, as text, or as bytes. Never as HTML. */
import { getRouteApi } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Message } from "../../api/shapes";
import { asText, fromBase64, hexdump, toBytes } from "../../format/hex";
import { pretty } from "../../format/json";
import { bytes } from "../../format/number";
import { useWords } from "../../i18n/context";
import { Button } from "../../ui/Button";
import { Raw } from "../../ui/Raw";
import { Tabs } from "../../ui/Tabs";
import { words as common } from "../../ui/words";
import css from "./MessagePage.module.css";
import { words } from "./words";

const route = getRouteApi("/messages/$id");
/** Characters that are drawn unless somebody asks for all of them. */
const SHOWN = 64 * 1024;

interface Props {
  message: Message;
  json: string | null;
}

export function Body({ message, json }: Props) {
  const say = useWords(words);
  const { body: asked } = route.useSearch();
  const navigate = route.useNavigate();
  const views = useMemo(() => {
    if (json !== null) {
      const data = toBytes(json);
      return { data, pretty: pretty(json), text: json };
    }
    if (!message.body_base64) return null;
    const data = fromBase64(message.body_base64);
    return { data, pretty: null, text: asText(data) };
  }, [json, message.body_base64]);
  if (message.body_missing) return <p className={css["missing"]}>{message.body_missing}</p>;
  if (!views) return <p className={css["missing"]}>{say("empty")}</p>;
  const tabs = [
    ...(views.pretty === null
      ? []
      : [{ value: "pretty", name: say("pretty"), content: <Shown text={views.pretty} /> }]),
    ...(views.text === null ? [] : [{ value: "text", name: say("text"), content: <Shown text={views.text} /> }]),
    { value: "hex", name: say("hex"), content: <Shown text={hexdump(views.data.subarray(0, SHOWN * 4))} hex /> },
  ];
  const value = tabs.find((tab) => tab.value === asked)?.value ?? tabs[0]?.value ?? "hex";
  return (
    <>
      <Tabs
        label={say("body")}
        value={value}
        tabs={tabs}
        onChange={(next) =>
          void navigate({ search: { body: next === tabs[0]?.value ? undefined : next }, replace: true })
        }
      />
      <p className={css["note"]}>
        {message.content_type && <Raw text={message.content_type} />} {bytes(views.data.length)}
      </p>
    </>
  );
}

function Shown({ text, hex = false }: { text: string; hex?: boolean }) {
  const say = useWords(common);
  const [all, setAll] = useState(false);
  const cut = !all && text.length > SHOWN;
  return (
    <>
      <pre className={`${css["body"]} ${hex ? css["hex"] : ""}`} data-testid="body">
        <Raw text={cut ? text.slice(0, SHOWN) : text} />
      </pre>
      {cut && (
        <p className={css["missing"]}>
          {say("shown", { size: bytes(SHOWN) })}{" "}
          <Button onClick={() => setAll(true)}>{say("showAll", { size: bytes(text.length) })}</Button>
        </p>
      )}
    </>
  );
}
