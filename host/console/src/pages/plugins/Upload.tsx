/** A component, dropped: checked and compiled by the host, whose words are shown. */
import { useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { change, path } from "../../api/client";
import { words as errorWords } from "../../api/problem";
import { useSession } from "../../api/session";
import type { Uploaded } from "../../api/shapes";
import { shortVersion } from "../../format/id";
import { useWords } from "../../i18n/context";
import buttons from "../../ui/Button.module.css";
import { Loading } from "../../ui/Notice";
import { Raw } from "../../ui/Raw";
import css from "./Upload.module.css";
import { words } from "./words";

interface Props {
  /** The plugin; asked for when it is not given. */
  name?: string;
  onDone?: (name: string) => void;
}

/** `order_handler.wasm` as the name a plugin may have. */
function nameOf(file: File): string {
  return file.name.replace(/\.(component\.)?wasm$/, "").replace(/[^a-zA-Z0-9.-]+/g, "-");
}

export function Upload({ name, onDone }: Props) {
  const say = useWords(words);
  const session = useSession();
  const cache = useQueryClient();
  const id = useId();
  const [over, setOver] = useState(false);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState<string | null>(null);
  const [done, setDone] = useState<Uploaded | null>(null);
  const [error, setError] = useState<unknown>(null);
  const send = async (file: File | undefined) => {
    if (!file) return;
    const plugin = name ?? (typed || nameOf(file));
    setBusy(plugin);
    setDone(null);
    setError(null);
    try {
      setDone(await change<Uploaded>("PUT", path("plugins", plugin), { body: file }));
      await cache.invalidateQueries({ queryKey: ["plugins"] });
      onDone?.(plugin);
    } catch (thrown) {
      setError(thrown);
    } finally {
      setBusy(null);
    }
  };
  if (!session.may("admin")) return <p>{say("needsAdmin")}</p>;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the file input within does the same for the keyboard
    <div
      className={css["drop"]}
      data-over={over}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void send(event.dataTransfer.files[0]);
      }}
    >
      {name === undefined && (
        <>
          <label htmlFor={`${id}-name`}>{say("dropName")}</label>
          <input
            id={`${id}-name`}
            type="text"
            value={typed}
            placeholder="order-handler"
            onChange={(event) => setTyped(event.target.value)}
          />
        </>
      )}
      <span className={css["choice"]}>
        {say("drop")}
        <label htmlFor={id} className={`${buttons["button"]} ${css["choose"]}`}>
          {say("choose")}
        </label>
      </span>
      <input
        id={id}
        className={css["file"]}
        type="file"
        accept=".wasm,application/wasm"
        onChange={(event) => {
          void send(event.target.files?.[0]);
          event.target.value = "";
        }}
      />
      {busy !== null && (
        <div role="status">
          {say("uploading", { name: busy })}
          <Loading />
        </div>
      )}
      {done && <p role="status">{say("uploaded", { version: shortVersion(done.version) })}</p>}
      {error !== null && (
        <div className={css["refused"]} role="alert">
          <b>{say("refused")}</b>
          {"\n"}
          <Raw text={errorWords(error)} />
        </div>
      )}
    </div>
  );
}
