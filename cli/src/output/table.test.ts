import { expect, test } from "vitest";
import { formatTable } from "./table.ts";
import { textWidth } from "./text-width.ts";

test("columns are as wide as their widest cell, numbers stand at the right", () => {
  const table = formatTable(
    [{ title: "NAME" }, { title: "SIZE", right: true }],
    [
      ["orders", "1.2 GB"],
      ["x", "9 B"],
    ],
  );
  expect(table).toBe("NAME      SIZE\norders  1.2 GB\nx          9 B\n");
});

test("a table is cut to 80 columns, and an id in it never is", () => {
  const id = `bkp_${"0".repeat(26)}`;
  const table = formatTable(
    [{ title: "ID" }, { title: "CLUSTER", cut: true }, { title: "IN", cut: true }],
    [[id, "a".repeat(63), "b".repeat(63)]],
  );
  const lines = table.trimEnd().split("\n");
  for (const line of lines) expect(textWidth(line)).toBeLessThanOrEqual(80);
  expect(lines[1]).toContain(id);
  expect(lines[1]).toContain("…");
});

test("names that hold newlines, escapes or emoji keep a row on its line and in its columns", () => {
  const table = formatTable(
    [{ title: "NAME" }, { title: "X" }],
    [
      ["a\nb\u001B[31m", "1"],
      ["🐘", "2"],
    ],
  );
  expect(table).toBe("NAME            X\na\\nb\\u001b[31m  1\n🐘              2\n");
});

test("colour does not count as width", () => {
  const table = formatTable([{ title: "A" }, { title: "B" }], [["ok", "1"]], (cell) => `<${cell}>`);
  expect(table).toBe("A   B\n<ok>  <1>\n");
});
