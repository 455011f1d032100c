import { printable } from "./printable.ts";
import { cutText, textWidth } from "./text-width.ts";

/** A column: what it is called and whether its cells may be cut when the table is too wide. Ids are never cut. */
export interface Column {
  readonly title: string;
  readonly right?: boolean;
  readonly cut?: boolean;
}

/** Widest table that is printed. */
export const tableColumns = 80;

/**
 * Lines of a table with its titles, at most 80 columns wide as long as there is something that may be cut: the widest
 * such column gives way first. Cells are made printable. `paint` gets each finished cell and may colour it.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  paint: (cell: string, column: number, row: number) => string = (cell) => cell,
): string {
  const texts = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))];
  const widths = columns.map((_, index) => Math.max(...texts.map((row) => textWidth(row[index] ?? ""))));
  const gap = 2;
  for (;;) {
    const excess = widths.reduce((sum, width) => sum + width, gap * (widths.length - 1)) - tableColumns;
    if (excess <= 0) break;
    const cuttable = columns.flatMap(({ cut, title }, index) =>
      cut && (widths[index] ?? 0) > Math.max(6, title.length) ? [index] : [],
    );
    const [widest] = cuttable.sort((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0));
    if (widest === undefined) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  const lines = texts.map((row, rowIndex) =>
    columns
      .map(({ right }, index) => {
        const width = widths[index] ?? 0;
        const cell = cutText(row[index] ?? "", width);
        const space = " ".repeat(width - textWidth(cell));
        const painted = rowIndex === 0 ? cell : paint(cell, index, rowIndex - 1);
        if (right) return space + painted;
        return index === columns.length - 1 ? painted : painted + space;
      })
      .join(" ".repeat(gap))
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}
