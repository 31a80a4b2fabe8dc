/** Which columns a table shows. */
import * as Menu from "@radix-ui/react-dropdown-menu";
import { useWords } from "../i18n/context";
import css from "./Menu.module.css";
import type { Column } from "./Table";
import { words } from "./words";

interface Props<T> {
  columns: Column<T>[];
  hidden: string[];
  onHide: (hidden: string[]) => void;
}

export function ColumnMenu<T>({ columns, hidden, onHide }: Props<T>) {
  const say = useWords(words);
  const toggle = (id: string) => onHide(hidden.includes(id) ? hidden.filter((other) => other !== id) : [...hidden, id]);
  return (
    // Not modal: locking the page's scroll would inject a style element.
    <Menu.Root modal={false}>
      <Menu.Trigger className={css["trigger"]}>{say("columns")} ▾</Menu.Trigger>
      <Menu.Portal>
        <Menu.Content className={css["menu"]} align="end" sideOffset={4}>
          {columns.map((column) => (
            <Menu.CheckboxItem
              key={column.id}
              className={css["item"]}
              checked={!hidden.includes(column.id)}
              onSelect={(event) => event.preventDefault()}
              onCheckedChange={() => toggle(column.id)}
            >
              <span className={css["tick"]}>{hidden.includes(column.id) ? "" : "✓"}</span>
              {column.name}
            </Menu.CheckboxItem>
          ))}
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}
