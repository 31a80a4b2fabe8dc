/** Where a filter's value is chosen or typed. */
import { useId, useState } from "react";
import { useWords } from "../i18n/context";
import { Button } from "./Button";
import type { Filter } from "./Filters";
import css from "./Filters.module.css";
import { words } from "./words";

interface Props {
  filter: Filter;
  value: string | undefined;
  onSet: (value: string | undefined) => void;
}

export function FilterForm({ filter, value, onSet }: Props) {
  const say = useWords(words);
  const id = useId();
  const [typed, setTyped] = useState(value ?? "");
  const offered = (filter.options ?? []).filter(
    (option) => filter.only || typed === (value ?? "") || option.label.toLowerCase().includes(typed.toLowerCase()),
  );
  return (
    <form
      className={css["form"]}
      onSubmit={(event) => {
        event.preventDefault();
        onSet(typed.trim() === "" ? undefined : typed.trim());
      }}
    >
      {!filter.only && (
        <>
          <label htmlFor={id}>{filter.label}</label>
          <input
            id={id}
            value={typed}
            placeholder={filter.hint}
            autoComplete="off"
            onChange={(event) => setTyped(event.target.value)}
          />
        </>
      )}
      {offered.length > 0 && (
        <div className={css["options"]}>
          {offered.map((option) => (
            <button key={option.value} type="button" className={css["option"]} onClick={() => onSet(option.value)}>
              {option.label}
            </button>
          ))}
        </div>
      )}
      {!filter.only && (
        <Button look="main" type="submit">
          {say("apply")}
        </Button>
      )}
    </form>
  );
}
