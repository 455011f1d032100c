// Writes docs/errors.md from the table of reasons: npm run errors-doc
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ReasonInfo, reasons } from "@coppice/proto/kit/reasons";

/** The text of docs/errors.md: a row for each reason. */
export function formatErrorsDoc(table: Readonly<Record<string, ReasonInfo>> = reasons): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return [
    "# Errors",
    "",
    "Every failure carries a `coppice.common.v1.FailureDetail`: a reason out of this list, a message, a hint. The hint here",
    "is the general one; a failure may carry a more precise one. *Retry* means that the same call may succeed later without",
    "anybody changing anything. New reasons may be added; a reason never changes its meaning.",
    "",
    "This file is generated from `proto/kit/reasons.ts` by `npm run errors-doc`.",
    "",
    "| reason | code | retry | meaning | what to do |",
    "| --- | --- | --- | --- | --- |",
    ...Object.entries(table).map(
      ([reason, { code, retryable, doc, hint }]) =>
        `| \`${reason}\` | \`${code}\` | ${retryable ? "yes" : "no"} | ${cell(doc)} | ${cell(hint)} |`,
    ),
    "",
  ].join("\n");
}

if (import.meta.main) await writeFile(join(import.meta.dirname, "../docs/errors.md"), formatErrorsDoc());
