/** Filters that read as a sentence. What they say is what the URL says. */
import * as Menu from "@radix-ui/react-dropdown-menu";
import * as Popover from "@radix-ui/react-popover";
import { type ReactNode, useState } from "react";
import { plain } from "../format/hostile";
import { useWords } from "../i18n/context";
import { FilterForm } from "./FilterForm";
import css from "./Filters.module.css";
import menu from "./Menu.module.css";
import { words } from "./words";

export interface Filter {
  name: string;
  /** What it is called where it can be added. */
  label: string;
  /** How the sentence says it, with `{value}` where the value stands. */
  phrase: string;
  /** Values to choose from; anything can be typed as well unless `only`. */
  options?: { value: string; label: string }[];
  only?: boolean;
  hint?: string;
}

interface Props {
  lead: string;
  filters: Filter[];
  values: Record<string, string | undefined>;
  onChange: (values: Record<string, string | undefined>) => void;
  children?: ReactNode;
}

export function Filters({ lead, filters, values, onChange, children }: Props) {
  const say = useWords(words);
  // One that was just added has no value yet, and its form is open.
  const [open, setOpen] = useState<string | null>(null);
  const active = filters.filter((filter) => values[filter.name] !== undefined || filter.name === open);
  const idle = filters.filter((filter) => !active.includes(filter));
  const set = (name: string, value: string | undefined) => {
    setOpen(null);
    onChange({ ...values, [name]: value });
  };
  return (
    <search className={css["sentence"]}>
      <span className={css["lead"]}>{lead}</span>
      {active.map((filter) => {
        const value = values[filter.name] ?? "…";
        const label = filter.options?.find((option) => option.value === value)?.label ?? plain(value);
        const [before, after] = filter.phrase.split("{value}");
        return (
          <Popover.Root
            key={filter.name}
            open={open === filter.name}
            onOpenChange={(next) => setOpen(next ? filter.name : null)}
          >
            <span className={css["chip"]}>
              <Popover.Trigger className={css["value"]} title={plain(value)}>
                {before}
                <b>{label}</b>
                {after}
              </Popover.Trigger>
              <button
                type="button"
                className={css["remove"]}
                aria-label={say("remove", { what: filter.label })}
                onClick={() => set(filter.name, undefined)}
              >
                ×
              </button>
            </span>
            <Popover.Portal>
              <Popover.Content className={menu["menu"]} align="start" sideOffset={4}>
                <FilterForm filter={filter} value={values[filter.name]} onSet={(next) => set(filter.name, next)} />
              </Popover.Content>
            </Popover.Portal>
          </Popover.Root>
        );
      })}
      {idle.length > 0 && (
        <Menu.Root modal={false}>
          <Menu.Trigger className={css["add"]}>+ {say("filter")}</Menu.Trigger>
          <Menu.Portal>
            <Menu.Content
              className={menu["menu"]}
              align="start"
              sideOffset={4}
              onCloseAutoFocus={(e) => e.preventDefault()}
            >
              {idle.map((filter) => (
                <Menu.Item
                  key={filter.name}
                  className={menu["item"]}
                  // The popover opens once the menu has closed, or its closing would take the focus along.
                  onSelect={() => setTimeout(() => setOpen(filter.name))}
                >
                  {filter.label}
                </Menu.Item>
              ))}
            </Menu.Content>
          </Menu.Portal>
        </Menu.Root>
      )}
      {children}
    </search>
  );
}
