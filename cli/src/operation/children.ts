import { type Operation, OperationStateSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Api } from "../client/api.ts";
import { hasEnded } from "../client/has-ended.ts";
import { collectPages } from "../client/pages.ts";
import { formatElapsed } from "../output/elapsed.ts";
import { enumLabel } from "../output/enum-label.ts";
import { printable } from "../output/printable.ts";
import { formatTable } from "../output/table.ts";
import { workedMs } from "./outcome.ts";

/** Whether an operation is made of others. */
export function isGroup({ spec }: Operation): boolean {
  return spec.case === "restoreCluster";
}

/** The operations that a group is made of, in the order in which they are done. */
export async function listChildren(api: Api, parent: string): Promise<Operation[]> {
  const { items } = await collectPages(
    (page) => api.operations.listOperations({ page, parent }),
    ({ operations }) => operations,
  );
  return items.toReversed();
}

/** What a group is made of, an operation a line. */
export function formatChildren(children: readonly Operation[]): string {
  return formatTable(
    [{ title: "PART" }, { title: "OF", cut: true }, { title: "STATE" }, { title: "TOOK", right: true }],
    children.map((child) => [
      child.id,
      printable(subjectOf(child)),
      enumLabel(OperationStateSchema, child.state),
      hasEnded(child) && child.startTime ? formatElapsed(workedMs(child), 1) : "-",
    ]),
  );
}

function subjectOf({ spec, kind }: Operation): string {
  if (spec.case === "restoreGlobals") return "globals";
  return spec.case === "createRestore" ? spec.value.database : kind.replaceAll("_", " ");
}
