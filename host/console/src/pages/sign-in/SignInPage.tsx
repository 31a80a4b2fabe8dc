/** A token for a session. */
import { useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { signIn } from "../../api/session";
import { useLanguage, useWords } from "../../i18n/context";
import buttons from "../../ui/Button.module.css";
import { Refusal } from "../../ui/Dialog";
import css from "./SignInPage.module.css";
import { words } from "./words";

export function SignInPage() {
  const say = useWords(words);
  const { language, choose } = useLanguage();
  const cache = useQueryClient();
  const id = useId();
  const [token, setToken] = useState("");
  const [error, setError] = useState<unknown>(null);
  const go = async (event: React.FormEvent) => {
    event.preventDefault();
    setError(null);
    try {
      await signIn(token);
      await cache.invalidateQueries({ queryKey: ["me"] });
    } catch (thrown) {
      setError(thrown);
    }
  };
  return (
    <main>
      <form className={css["form"]} onSubmit={(event) => void go(event)}>
        <h1>Courier</h1>
        <p className={css["what"]}>{say("what")}</p>
        <label htmlFor={id}>{say("token")}</label>
        <input
          id={id}
          type="password"
          value={token}
          autoComplete="current-password"
          onChange={(event) => setToken(event.target.value)}
        />
        <Refusal error={error} />
        <button type="submit" className={`${buttons["button"]} ${buttons["main"]}`} disabled={token === ""}>
          {say("go")}
        </button>
        <button
          type="button"
          className={`${buttons["button"]} ${buttons["bare"]}`}
          onClick={() => choose(language === "en" ? "zh" : "en")}
        >
          {language === "en" ? "中文" : "English"}
        </button>
      </form>
    </main>
  );
}
