import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatErrorsDoc } from "./errors-doc.ts";

test("docs/errors.md is what the table of reasons says", async () => {
  const committed = await readFile(join(import.meta.dirname, "../docs/errors.md"), "utf8");
  expect(committed, "run npm run errors-doc").toBe(formatErrorsDoc());
});

test("a bar in a text does not end its cell", () => {
  const doc = formatErrorsDoc({ X: { code: "internal", retryable: true, hint: "a|b", doc: "It." } });
  expect(doc).toContain("| `X` | `internal` | yes | It. | a\\|b |");
});
