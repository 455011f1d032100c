import { create } from "@bufbuild/protobuf";
import { type CheckItem, CheckItemSchema, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import type { Operation, PlannedDatabase, RestorePlan } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { RestoredGlobals } from "@coppice/proto/gen/coppice/control/v1/restore_operation";
import { formatSize } from "@coppice/proto/kit/size";
import { formatRelative } from "../output/elapsed.ts";
import { timeOf } from "../output/time.ts";

/** What a plan says: its verdict either way, what would be done, and what was looked at. */
export interface DescribedPlan {
  readonly good: string;
  readonly bad: string;
  readonly facts: readonly string[];
  readonly items: readonly CheckItem[];
}

const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** Everything that was looked at: of the databases of a whole cluster what is not as it should be, each by its name. */
export function itemsOfPlan({ items, databases }: RestorePlan): CheckItem[] {
  const ofDatabases = databases.flatMap(({ database, plan }) =>
    (plan?.items ?? [])
      .filter(({ status }) => status !== CheckStatus.OK)
      .map((item) => create(CheckItemSchema, { ...item, message: `${database}: ${item.message}` })),
  );
  return [...items, ...ofDatabases];
}

/** A plan for people. */
export function describePlan(plan: RestorePlan, { spec }: Operation, now: Date): DescribedPlan {
  const age = plan.backupTime ? `, taken ${formatRelative(timeOf(plan.backupTime), now)}` : "";
  const source = `from ${plan.backup || fileOf(spec)}${age}`;
  const isGlobals = plan.globals !== undefined && plan.databases.length === 0;
  const facts = [source, ...(isGlobals ? [] : describeSize(plan))];
  if (plan.sessionsToEnd > 0) facts.push(`ends ${count(plan.sessionsToEnd, "session")}`);
  if (plan.keptAs) facts.push(`keeps the present database as ${plan.keptAs}`);
  if (plan.globals) facts.push(...describeGlobals(plan.globals));
  const cluster = spec.case === "planRestore" ? spec.value.cluster : undefined;
  facts.push(...(cluster?.missing ?? []).map((what) => `! not in the backup: ${what}`));
  facts.push(...(plan.databases.length > 0 ? plan.databases.map(describeDatabase) : numbered(plan.steps)));
  const { what, where } = subjectOf(spec);
  return {
    good: `${what} can be restored into ${where}; nothing was touched`,
    bad: `${what} cannot be restored into ${where}; nothing was touched`,
    facts,
    items: itemsOfPlan(plan),
  };
}

function subjectOf(spec: Operation["spec"]): { readonly what: string; readonly where: string } {
  const { restore, cluster, globals } = spec.case === "planRestore" ? spec.value : {};
  if (restore) {
    const what = restore.database || restore.file;
    return { what, where: `${restore.targetClusterName} as ${restore.targetDatabase}` };
  }
  if (cluster) return { what: "the whole cluster", where: cluster.targetClusterName };
  return { what: "the globals", where: globals?.targetClusterName ?? "" };
}

function fileOf(spec: Operation["spec"]): string {
  return (spec.case === "planRestore" && spec.value.restore?.file) || "";
}

function describeSize({ storedBytes, databaseBytes, freeBytes }: RestorePlan): string[] {
  const free = freeBytes === undefined ? "" : `, ${formatSize(freeBytes)} free`;
  return [`reads ${formatSize(storedBytes)}, writes about ${formatSize(databaseBytes)}${free}`];
}

const numbered = (steps: readonly string[]) => steps.map((step, index) => `${index + 1}. ${step}`);

function describeGlobals(globals: RestoredGlobals): string[] {
  const { createdRoles, createdTablespaces, presentRoles, presentTablespaces, differences, skipped } = globals;
  return [
    ...names("creates the role", createdRoles),
    ...names("creates the tablespace", createdTablespaces),
    ...names("leaves as it is the role", presentRoles),
    ...names("leaves as it is the tablespace", presentTablespaces),
    ...differences.map((difference) => `! as it is there: ${difference}`),
    ...skipped.map((each) => `! left out: ${each}`),
  ];
}

function names(title: string, list: readonly string[]): string[] {
  return list.length === 0 ? [] : [`${title}${list.length === 1 ? "" : "s"} ${list.join(", ")}`];
}

function describeDatabase({ targetDatabase, into, plan }: PlannedDatabase, index: number): string {
  const how = into
    ? "goes into the present one"
    : plan?.keptAs
      ? `replaces the present one, kept as ${plan.keptAs}`
      : "is made";
  const size =
    plan === undefined ? "" : `: ${formatSize(plan.storedBytes)} to read, about ${formatSize(plan.databaseBytes)}`;
  const ends = plan?.sessionsToEnd ? `, ends ${count(plan.sessionsToEnd, "session")}` : "";
  return `${index + 1}. ${targetDatabase} ${how}${size}${ends}`;
}
