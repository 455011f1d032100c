import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { RestoredCluster, RestoredGlobals } from "@coppice/proto/gen/coppice/control/v1/restore_operation";
import { formatSuccess } from "../output/success.ts";
import type { Terminal } from "../output/terminal.ts";

/** What the text about a restore is made with; `took` says how long it worked. */
export interface RestoredContext {
  readonly paint: Terminal["paint"];
  readonly took: string;
}

const count = (number: number | bigint, noun: string) => `${number} ${noun}${Number(number) === 1 ? "" : "s"}`;
const warnings = (texts: readonly string[]) => texts.map((text) => `! ${text}`);

/** What restored globals say at their end. */
export function formatRestoredGlobals(
  { createdRoles, createdTablespaces, differences, skipped }: RestoredGlobals,
  { spec }: Operation,
  { paint, took }: RestoredContext,
): string {
  const cluster = spec.case === "restoreGlobals" ? spec.value.targetClusterName : "";
  const made = `${count(createdRoles.length, "role")} and ${count(createdTablespaces.length, "tablespace")} created`;
  const facts = [
    ...names("created", [...createdRoles, ...createdTablespaces]),
    ...warnings([...differences, ...skipped]),
  ];
  return formatSuccess(paint, `the globals are restored in ${cluster}: ${made}, in ${took}`, { facts });
}

/** What a restored cluster says at its end. */
export function formatRestoredCluster(
  restored: RestoredCluster,
  { spec }: Operation,
  { paint, took }: RestoredContext,
): string {
  const cluster = spec.case === "restoreCluster" ? spec.value.targetClusterName : "";
  const { databases, tables, rows, keptAs, createdRoles, createdTablespaces } = restored;
  const facts = [
    ...names("created", [...createdRoles, ...createdTablespaces]),
    ...names("the databases before are kept, drop them when nobody needs them:", keptAs),
    ...warnings(restored.warnings),
  ];
  const what = `${count(databases, "database")}, ${count(tables, "table")} with ${count(rows, "row")} counted`;
  return formatSuccess(paint, `${cluster} is restored: ${what}, in ${took}`, { facts, next: "coppice status" });
}

/** What of a cluster is restored, and what is not, where its restore failed or was cancelled; empty when nothing is. */
export function formatPartlyRestored({ restored, notRestored, keptAs }: RestoredCluster): string {
  const lines = [
    ...names("restored and in place:", restored),
    ...names("not restored:", notRestored),
    ...names("the databases before are kept:", keptAs),
    ...(restored.length > 0 ? ["to repeat it, what is in place is swapped with --replace"] : []),
  ];
  return lines.map((line) => `  ${line}\n`).join("");
}

function names(title: string, list: readonly string[]): string[] {
  return list.length === 0 ? [] : [`${title} ${list.join(", ")}`];
}
