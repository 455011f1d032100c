import type { OnlyLive, TableDifference } from "@coppice/proto/gen/coppice/common/v1/table_difference";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { DecidedRestore, RecoveredPart } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { formatSize } from "@coppice/proto/kit/size";
import { shellWord } from "../output/shell-word.ts";
import { formatSuccess } from "../output/success.ts";
import type { Terminal } from "../output/terminal.ts";
import { instantOf } from "../output/time.ts";
import { namePart, nameTable } from "./name-part.ts";
import { describeTarget } from "./physical.ts";

const count = (number: number | bigint, noun: string) => `${number} ${noun}${Number(number) === 1 ? "" : "s"}`;
const mostTables = 20;

function describeDifference(difference: TableDifference): string {
  const { schema, table, counted, note, byKey, onlyLive, onlyRecovered, same, changed } = difference;
  const name = nameTable(schema, table);
  if (!counted) return `! ${name}: its rows were not compared with the live ones: ${note}`;
  const numbers = [
    `${onlyRecovered} only in what was recovered`,
    `${onlyLive} only in the live table`,
    ...(byKey ? [`${changed} changed`] : []),
    `${same} the same`,
  ];
  const how = byKey ? ["by primary key"] : note === "" ? ["by whole rows"] : [];
  return `${name}: ${numbers.join(", ")}; ${[...how, ...(note === "" ? [] : [note])].join(", ")}`;
}

function describeOnlyLive({ objects, more }: OnlyLive): string {
  const names = objects.map(({ kind, name, rows }) => {
    const size = rows === undefined ? "" : ` (${count(rows, "row")})`;
    return `${kind} ${name}${size}`;
  });
  return `! only in the live database: ${[...names, ...(more > 0 ? [`and ${more} more`] : [])].join(", ")}`;
}

/** What a part that was brought back says at its end. */
export function formatRecoveredPart(
  recovered: RecoveredPart,
  { id, spec, hostName, endTime }: Operation,
  { paint, took }: { readonly paint: Terminal["paint"]; readonly took: string },
): string {
  const part = spec.case === "recoverPart" ? spec.value : undefined;
  const name = part ? namePart(part) : recovered.database;
  const as = part ? `, ${describeTarget(part.restore?.target)},` : "";
  const commit = instantOf(recovered.lastCommitTime);
  const { differences, onlyLive, warnings } = recovered;
  const facts = [
    ...(recovered.endLsn === ""
      ? []
      : [`recovery ended at ${recovered.endLsn}${commit ? `; the last transaction in it is of ${commit}` : ""}`]),
    ...differences.slice(0, mostTables).map(describeDifference),
    ...(differences.length > mostTables
      ? [`and ${differences.length - mostTables} more tables: -o json has them all`]
      : []),
    ...(onlyLive && onlyLive.objects.length > 0 ? [describeOnlyLive(onlyLive)] : []),
    ...warnings.map((warning) => `! ${warning}`),
  ];
  if (part) facts.push(`the scratch server and ${hostName}:${part.scratch} are gone`);
  if (recovered.keptAs) facts.push(`the database before is kept as ${recovered.keptAs}: drop it when nobody needs it`);
  if (recovered.file !== "") {
    const size = formatSize(recovered.fileBytes);
    const text = `${name}${as} is in ${hostName}:${recovered.file}: ${count(recovered.tables, "table")} with rows, ${size}, read by pg_restore, in ${took}`;
    return formatSuccess(paint, text, { facts, next: `pg_restore --list ${shellWord(recovered.file)}` });
  }
  const rows = `${count(recovered.objects, "object")} compared, ${count(recovered.tables, "table")} with ${count(recovered.rows, "row")} counted`;
  const cluster = part?.targetClusterName ?? recovered.cluster;
  if (recovered.held) {
    const target = part?.targetDatabase ?? "the present one";
    const compared = `compared before ${instantOf(endTime) ?? "its end"}; what is written into ${target} later is in none of this`;
    facts.push(
      ...(differences.length > 0 || onlyLive ? [compared] : []),
      `it has replaced nothing; until it is swapped in or dropped ${recovered.held.name} is closed to all but superusers, and in no dump of ${cluster}`,
      `when it is not wanted: coppice restore drop ${id}`,
    );
    const text = `${name}${as} waits beside ${target} of ${cluster} as ${recovered.held.name}: ${rows}, in ${took}`;
    return formatSuccess(paint, text, { facts, next: `coppice restore swap ${id}` });
  }
  const where = `${cluster} as ${recovered.database}`;
  return formatSuccess(paint, `${name}${as} is in ${where}: ${rows}, in ${took}`, { facts, next: "coppice status" });
}

/** What a decision upon a database that was left beside says at its end. */
export function formatDecidedRestore(
  { decision, cluster, database, keptAs }: DecidedRestore,
  { spec }: Operation,
  { paint }: { readonly paint: Terminal["paint"] },
): string {
  const where = spec.case === "decideRestore" ? spec.value.targetClusterName : cluster;
  if (decision === RestoreDecision.DROP)
    return formatSuccess(paint, `${database} is dropped from ${where}; nothing was replaced`);
  const facts = keptAs ? [`the database before is kept as ${keptAs}: drop it when nobody needs it`] : [];
  return formatSuccess(paint, `${database} of ${where} is the restored one now`, { facts, next: "coppice status" });
}
