/** The main instrument: rows of one height, drawn only where they are seen. */
import { type ColumnDef, getCoreRowModel, type RowSelectionState, useReactTable } from "@tanstack/react-table";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useWords } from "../i18n/context";
import { ColumnMenu } from "./ColumnMenu";
import { useNarrow, useRemembered } from "./remember";
import css from "./Table.module.css";
import { TableRow } from "./TableRow";
import { least, ROW_PX, target } from "./table-measures";
import { words } from "./words";

export interface Column<T> {
  id: string;
  name: string;
  cell: (row: T) => ReactNode;
  /** As CSS grids write it. */
  width: string;
  right?: boolean;
  /** Whether it stays on a phone. */
  narrow?: boolean;
  /** Whether it has to be asked for. */
  hidden?: boolean;
}

interface Props<T> {
  /** Names the table, and what is remembered of it. */
  name: string;
  label: string;
  columns: Column<T>[];
  rows: T[];
  rowKey: (row: T) => string;
  onOpen?: (row: T) => void;
  more?: (() => void) | null;
  selection?: { chosen: RowSelectionState; choose: (chosen: RowSelectionState) => void };
  /** Stands left in the bar above the rows; a count of the rows without it. */
  bar?: ReactNode;
  /** Whether it goes without the bar, as a small table within a page does. */
  plain?: boolean;
}

export function Table<T>({
  name,
  label,
  columns,
  rows,
  rowKey,
  onOpen,
  more = null,
  selection,
  bar,
  plain = false,
}: Props<T>) {
  const say = useWords(words);
  const narrow = useNarrow();
  const [hidden, setHidden] = useRemembered<string[]>(
    `columns.${name}`,
    columns.filter((column) => column.hidden).map((column) => column.id),
  );
  const defs = useMemo<ColumnDef<T>[]>(() => columns.map(({ id }) => ({ id })), [columns]);
  const table = useReactTable({
    data: rows,
    columns: defs,
    getRowId: rowKey,
    getCoreRowModel: getCoreRowModel(),
    state: { rowSelection: selection?.chosen ?? {} },
    enableRowSelection: selection !== undefined,
    onRowSelectionChange: (update) =>
      selection?.choose(typeof update === "function" ? update(selection.chosen) : update),
  });
  const shown = columns.filter((column) => (narrow ? column.narrow : !hidden.includes(column.id)));
  const widths = [...(selection ? ["16px"] : []), ...shown.map((column) => column.width)];
  const template = widths.join(" ");

  const body = useRef<HTMLDivElement>(null);
  const [margin, setMargin] = useState(0);
  useLayoutEffect(() => setMargin((body.current?.getBoundingClientRect().top ?? 0) + window.scrollY), []);
  const virtual = useWindowVirtualizer({
    count: rows.length,
    estimateSize: () => ROW_PX,
    overscan: 12,
    scrollMargin: margin,
  });
  const drawn = virtual.getVirtualItems();
  const last = drawn.at(-1)?.index ?? 0;
  useEffect(() => {
    if (more && last >= rows.length - 20) more();
  }, [more, last, rows.length]);

  const [active, setActive] = useState(0);
  const move = (to: number) => {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    setActive(next);
    virtual.scrollToIndex(next, { align: "auto" });
    requestAnimationFrame(() => body.current?.querySelector<HTMLElement>(`[data-index="${next}"]`)?.focus());
  };
  const onKey = (event: React.KeyboardEvent) => {
    if (!(event.target as HTMLElement).matches('[role="row"]')) return;
    const to = target(event.key, active, rows.length);
    if (to === null) return;
    event.preventDefault();
    move(to);
  };

  const chosen = Object.keys(selection?.chosen ?? {}).length;
  return (
    <div className={css["wrap"]}>
      {!plain && (
        <div className={css["bar"]}>
          <span>{bar ?? say(more ? "rowsMore" : "rows", { n: rows.length })}</span>
          <span className={css["tools"]}>
            {chosen > 0 && say("selected", { n: chosen })}
            {!narrow && <ColumnMenu columns={columns} hidden={hidden} onHide={setHidden} />}
          </span>
        </div>
      )}
      <div className={css["scroll"]}>
        {/* biome-ignore lint/a11y/useSemanticElements: rows of a table element cannot be placed by a virtual list */}
        <div
          className={css["grid"]}
          style={{ minWidth: least(widths) }}
          role="grid"
          tabIndex={-1}
          aria-label={label}
          aria-rowcount={rows.length + 1}
          onKeyDown={onKey}
        >
          {/* biome-ignore lint/a11y/useSemanticElements: as above */}
          <div
            className={css["head"]}
            style={{ gridTemplateColumns: template }}
            role="row"
            tabIndex={-1}
            aria-rowindex={1}
          >
            {selection && (
              // biome-ignore lint/a11y/useSemanticElements: as above
              // biome-ignore lint/a11y/useFocusableInteractive: the box in it is
              <span role="columnheader" className={css["box"]}>
                <input
                  type="checkbox"
                  className={css["check"]}
                  aria-label={say("selectAll")}
                  checked={rows.length > 0 && table.getIsAllRowsSelected()}
                  onChange={table.getToggleAllRowsSelectedHandler()}
                />
              </span>
            )}
            {shown.map((column) => (
              // biome-ignore lint/a11y/useSemanticElements: as above
              // biome-ignore lint/a11y/useFocusableInteractive: rows are what the keyboard moves by
              <span
                key={column.id}
                role="columnheader"
                className={`${css["cell"]} ${column.right ? css["right"] : ""}`}
              >
                {column.name}
              </span>
            ))}
          </div>
          {/* biome-ignore lint/a11y/useSemanticElements: as above */}
          <div className={css["body"]} ref={body} style={{ height: virtual.getTotalSize() }} role="rowgroup">
            {drawn.map((item) => {
              const row = table.getRowModel().rows[item.index];
              if (!row) return null;
              return (
                <TableRow
                  key={row.id}
                  row={row}
                  columns={shown}
                  template={template}
                  index={item.index}
                  top={item.start - virtual.options.scrollMargin}
                  active={item.index === Math.min(active, rows.length - 1)}
                  selectable={selection !== undefined}
                  onFocus={() => setActive(item.index)}
                  onOpen={onOpen}
                />
              );
            })}
          </div>
        </div>
      </div>
    </div>
  );
}
