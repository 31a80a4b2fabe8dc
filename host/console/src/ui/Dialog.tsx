/** A change, asked for deliberately: what will happen, and one button that says it. */
import * as Radix from "@radix-ui/react-dialog";
import { type ReactNode, useId, useState } from "react";
import { words as errorWords } from "../api/problem";
import { useWords } from "../i18n/context";
import { Button } from "./Button";
import css from "./Dialog.module.css";
import { type Change, tell } from "./Told";
import { words } from "./words";

interface DialogProps {
  open: boolean;
  onClose: () => void;
  title: string;
  what?: ReactNode;
  wide?: boolean;
  children?: ReactNode;
  foot?: ReactNode;
}

/**
 * A dialog. The veil is our own element: Radix's would lock the page's scroll
 * by a style element, which the host's policy does not allow.
 */
export function Dialog({ open, onClose, title, what, wide = false, children, foot }: DialogProps) {
  return (
    <Radix.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <Radix.Portal>
        <div className={css["veil"]} />
        <Radix.Content
          className={`${css["dialog"]} ${wide ? css["wide"] : ""}`}
          {...(what ? {} : { "aria-describedby": undefined })}
        >
          <Radix.Title className={css["title"]}>{title}</Radix.Title>
          {what && (
            <Radix.Description asChild>
              <div className={css["what"]}>{what}</div>
            </Radix.Description>
          )}
          {children}
          {foot && <div className={css["foot"]}>{foot}</div>}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

export function Field({ label, children }: { label: string; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className={css["field"]}>
      <label htmlFor={id}>{label}</label>
      {children(id)}
    </div>
  );
}

export function Refusal({ error }: { error: unknown }) {
  const say = useWords(words);
  if (!error) return null;
  return (
    <p className={css["error"]} role="alert">
      {say("failed", { why: errorWords(error) })}
    </p>
  );
}

interface ConfirmProps {
  open: boolean;
  onClose: () => void;
  title: string;
  what: ReactNode;
  /** What the button says. */
  act: string;
  /** Does it; what it throws is shown, and the dialog stays. */
  onAct: () => Promise<unknown>;
  /** What has to be typed, for what cannot be undone. */
  confirm?: string;
  /** Whether what the dialog asks for is given. */
  ready?: boolean;
  /** Where the audit log has it. */
  audit?: Change["audit"];
  children?: ReactNode;
}

export function Confirm({
  open,
  onClose,
  title,
  what,
  act,
  onAct,
  confirm,
  ready = true,
  audit,
  children,
}: ConfirmProps) {
  const say = useWords(words);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const close = () => {
    setTyped("");
    setError(null);
    onClose();
  };
  const run = async () => {
    setBusy(true);
    setError(null);
    try {
      await onAct();
      close();
      if (audit) tell({ what: act, audit });
    } catch (thrown) {
      setError(thrown);
    } finally {
      setBusy(false);
    }
  };
  const blocked = busy || !ready || (confirm !== undefined && typed !== confirm);
  const foot = (
    <>
      <Button onClick={close}>{say("cancel")}</Button>
      <Button look="main" disabled={blocked} onClick={() => void run()}>
        {act}
      </Button>
    </>
  );
  return (
    <Dialog open={open} onClose={close} title={title} what={what} foot={foot}>
      {children}
      {confirm !== undefined && (
        <Field label={say("typeName", { name: confirm })}>
          {(id) => (
            <input id={id} value={typed} autoComplete="off" onChange={(event) => setTyped(event.target.value)} />
          )}
        </Field>
      )}
      <Refusal error={error} />
    </Dialog>
  );
}
