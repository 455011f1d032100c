import { create } from "@bufbuild/protobuf";
import { RestoredClusterSchema } from "@coppice/proto/gen/coppice/control/v1/restore_operation";
import { defineGroup, type OperationResult, type OperationSpec } from "./kind.ts";

/** A restore of a whole cluster: its globals, then one database after the other. What was restored stays. */
export const restoreCluster = defineGroup({
  spec: "restoreCluster",
  nameChild,
  tellResult,
  conclude({ targetCluster, databases, missing }, children) {
    const results = children.flatMap(({ result, succeeded }) => (succeeded && result ? [result] : []));
    const restored = results.flatMap((result) => (result.case === "restoredDatabase" ? [result.value] : []));
    const globals = results.flatMap((result) => (result.case === "restoredGlobals" ? [result.value] : []));
    const done = new Set(children.flatMap(({ spec, succeeded }) => (succeeded ? databaseOf(spec) : [])));
    return {
      case: "restoredCluster",
      value: create(RestoredClusterSchema, {
        cluster: targetCluster,
        databases: restored.length,
        tables: restored.reduce((sum, { tables }) => sum + tables, 0),
        rows: restored.reduce((sum, { rows }) => sum + rows, 0n),
        keptAs: restored.flatMap(({ keptAs }) => (keptAs === "" ? [] : [keptAs])),
        warnings: [
          ...missing.map((what) => `not in the backup: ${what}`),
          ...globals.flatMap(({ differences, skipped }) => [...differences, ...skipped]),
          ...restored.flatMap(({ database, warnings }) => warnings.map((one) => `${JSON.stringify(database)}: ${one}`)),
        ],
        restored: restored.map(({ database }) => database),
        notRestored: databases.filter((name) => !done.has(name)),
        createdRoles: globals.flatMap(({ createdRoles }) => createdRoles),
        createdTablespaces: globals.flatMap(({ createdTablespaces }) => createdTablespaces),
      }),
    };
  },
});

function nameChild(spec: OperationSpec): string {
  return databaseOf(spec).map((name) => `database ${JSON.stringify(name)}`)[0] ?? "the globals";
}

const count = (number: number | bigint, noun: string) => `${number} ${noun}${Number(number) === 1 ? "" : "s"}`;

function tellResult(result: OperationResult): string {
  if (result.case === "restoredGlobals") {
    const { createdRoles, createdTablespaces } = result.value;
    return `${count(createdRoles.length, "role")} and ${count(createdTablespaces.length, "tablespace")} created`;
  }
  if (result.case !== "restoredDatabase") return "";
  const { tables, rows, keptAs } = result.value;
  return `${count(tables, "table")}, ${count(rows, "row")} compared${keptAs === "" ? "" : `; the one before is kept as ${keptAs}`}`;
}

function databaseOf(spec: OperationSpec): string[] {
  return spec.case === "createRestore" ? [spec.value.database] : [];
}
