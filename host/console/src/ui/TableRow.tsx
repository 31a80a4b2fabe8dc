/** A row of a table. */
import type { Row } from "@tanstack/react-table";
import { useWords } from "../i18n/context";
import type { Column } from "./Table";
import css from "./Table.module.css";
import { words } from "./words";

interface Props<T> {
  row: Row<T>;
  columns: Column<T>[];
  template: string;
  index: number;
  top: number;
  /** Whether it is the one that Tab reaches. */
  active: boolean;
  selectable: boolean;
  onFocus: () => void;
  onOpen: ((row: T) => void) | undefined;
}

export function TableRow<T>({ row, columns, template, index, top, active, selectable, onFocus, onOpen }: Props<T>) {
  const say = useWords(words);
  const open = (event: React.SyntheticEvent) => {
    // Links, buttons and selected text in a row are for themselves.
    if ((event.target as HTMLElement).closest("a, button, input")) return;
    if (window.getSelection()?.toString()) return;
    onOpen?.(row.original);
  };
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.target !== event.currentTarget) return;
    if (event.key === "Enter") onOpen?.(row.original);
    if (event.key === " " && selectable) {
      event.preventDefault();
      row.toggleSelected();
    }
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: rows of a table element cannot be placed by a virtual list
    <div
      className={`${css["row"]} ${onOpen ? css["opens"] : ""}`}
      style={{ gridTemplateColumns: template, transform: `translateY(${top}px)` }}
      role="row"
      tabIndex={active ? 0 : -1}
      data-index={index}
      aria-rowindex={index + 2}
      aria-selected={selectable ? row.getIsSelected() : undefined}
      onFocus={onFocus}
      onClick={open}
      onKeyDown={onKeyDown}
    >
      {selectable && (
        // biome-ignore lint/a11y/useSemanticElements: as above
        // biome-ignore lint/a11y/useFocusableInteractive: the box in it is
        <span role="gridcell" className={css["box"]}>
          <input
            type="checkbox"
            className={css["check"]}
            aria-label={say("selectRow")}
            checked={row.getIsSelected()}
            onChange={row.getToggleSelectedHandler()}
          />
        </span>
      )}
      {columns.map((column) => (
        // biome-ignore lint/a11y/useSemanticElements: as above
        // biome-ignore lint/a11y/useFocusableInteractive: rows are what the keyboard moves by
        <span key={column.id} role="gridcell" className={`${css["cell"]} ${column.right ? css["right"] : ""}`}>
          {column.cell(row.original)}
        </span>
      ))}
    </div>
  );
}
