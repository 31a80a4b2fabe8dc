/** What can be pressed. One that would be refused says why instead. */
import type { ButtonHTMLAttributes } from "react";
import { useSession } from "../api/session";
import type { Role } from "../api/shapes";
import { useWords } from "../i18n/context";
import css from "./Button.module.css";
import { words } from "./words";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "plain" | "main" | "bare";
  /** Why it cannot be pressed now; it stays reachable, so that the reason is. */
  because?: string | null | undefined;
}

export function Button({ look = "plain", because, className = "", onClick, title, ...rest }: Props) {
  const stopped = Boolean(because) || rest.disabled;
  return (
    <button
      type="button"
      {...rest}
      disabled={false}
      className={`${css["button"]} ${look === "plain" ? "" : css[look]} ${className}`}
      aria-disabled={stopped || undefined}
      title={because ?? title}
      onClick={(event) => {
        if (stopped) event.preventDefault();
        else onClick?.(event);
      }}
    />
  );
}

/** Why the one who looks may not do what needs this role; null when they may. */
export function useWhyNot(): (role: Role) => string | null {
  const session = useSession();
  const say = useWords(words);
  return (role) => (session.may(role) ? null : say("needsRole", { role, mine: session.me.role }));
}
