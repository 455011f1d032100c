// What each kind of operation says at its end: one table over the cases of the contract, so that none is forgotten.
import { type CheckItem, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import { isWholeCluster } from "@coppice/proto/kit/repository/default-set";
import { nameCopy } from "@coppice/proto/kit/repository/restore-names";
import { formatSize } from "@coppice/proto/kit/size";
import { describeFixes, formatChecks } from "./checks.ts";
import { describePhysicalPlan, formatCreatedPhysicalBackup, formatRestoredDataDirectory } from "./physical.ts";
import { nameKnown } from "./name-known.ts";
import { describePlan, itemsOfPlan } from "./plan.ts";
import { formatVerifiedBackup, formatVerifiedWal } from "./verified.ts";
import { formatDecidedRestore, formatRecoveredPart } from "./recovered-part.ts";
import { describeTakenOf } from "./taken-of.ts";
import { formatCleanedWal } from "./wal/cleaned-wal.ts";
import { formatRestoredCluster, formatRestoredGlobals } from "./restored.ts";
import { formatElapsed } from "../output/elapsed.ts";
import { formatFailure } from "../output/failure.ts";
import { printable } from "../output/printable.ts";
import { shellWord } from "../output/shell-word.ts";
import { formatSuccess } from "../output/success.ts";
import type { Terminal } from "../output/terminal.ts";
import { timeOf } from "../output/time.ts";

/** What the text about an operation's end is made with. */
export interface OutcomeContext {
  readonly paint: Terminal["paint"];
  readonly now: Date;
  /** A database in the new backup, for the command that comes next. */
  readonly database?: string | undefined;
}

type Result = Operation["result"];
type ResultOf<Case extends Result["case"]> = Extract<Result, { readonly case: Case }>;
type Describe<Case extends Result["case"]> = (
  value: ResultOf<Case>["value"],
  operation: Operation,
  context: OutcomeContext,
) => string;

const count = (number: number | bigint, noun: string) => `${number} ${noun}${Number(number) === 1 ? "" : "s"}`;

/** How long an operation worked, without the time it waited for its agent. */
export function workedMs({ startTime, createTime, endTime }: Operation): number {
  const start = timeOf(startTime ?? createTime);
  const end = timeOf(endTime);
  return start && end ? Math.max(0, end.getTime() - start.getTime()) : 0;
}

const describe: { readonly [Case in Exclude<Result["case"], undefined>]: Describe<Case> } = {
  checkedCluster: ({ items: seen, applied, mended }, operation, { paint }) => {
    const { spec } = operation;
    const items = seen.map((item) => ({ ...item, fix: nameKnown(item.fix, operation) }));
    const name = spec.case === "checkCluster" ? spec.value.clusterName : "";
    const took = `checked in ${formatElapsed(workedMs(operation))}`;
    const changes = describeFixes(applied, mended);
    if (applied.some(({ problem }) => problem !== "")) {
      const message = `cluster ${name} refused statements that mend it, ${took}`;
      const hint = "run them as a superuser, with psql";
      return formatFailure({ message, hint, fields: [] }, paint) + linesOf(changes) + formatChecks(items, paint);
    }
    if (spec.case === "checkCluster" && spec.value.fixStatements.length > 0 && applied.length === 0)
      changes.push("none of the confirmed statements was run: the check did not ask for them any more");
    const failing = failingDumps(items);
    if (failing.length > 0 && !items.some(isFailed)) {
      const message = `cluster ${name} can be protected except ${count(failing.length, "database")}, ${took}`;
      const hint = `mend what is named below and check again, or leave them out: --exclude-database`;
      return formatFailure({ message, hint, fields: [] }, paint) + linesOf(changes) + formatChecks(items, paint);
    }
    return formatLook(items, paint, {
      changes,
      good: `cluster ${name} can be protected, ${took}`,
      bad: `cluster ${name} cannot be protected, ${took}`,
      next: `coppice backup create ${name}`,
    });
  },
  checkedRepository: ({ items }, operation, { paint }) => {
    const { spec } = operation;
    const name = spec.case === "checkRepository" ? spec.value.repositoryName : "";
    const where = `from ${operation.hostName}, checked in ${formatElapsed(workedMs(operation))}`;
    return formatLook(items, paint, {
      good: `repository ${name} works ${where}`,
      bad: `repository ${name} does not work ${where}`,
    });
  },
  createdBackup: (result, operation, { paint, database }) => {
    const sizes = `${formatSize(result.databaseBytes)} → ${formatSize(result.storedBytes)}`;
    const { spec } = operation;
    const cluster = spec.case === "createBackup" ? spec.value.clusterName : "";
    const dump = spec.case === "createBackup" ? spec.value.dump : undefined;
    const what = database ? `${shellWord(database)} --as ${shellWord(nameCopy(database, "copy"))}` : "NAME --as COPY";
    // Without its id it would be the last good one, which a selection never is.
    const id = isWholeCluster(dump) ? "" : ` --backup ${result.backup}`;
    const next = `coppice restore create ${cluster} --database ${what}${id}`;
    // Rows alone do not go into a new database.
    const isRestorable = result.databases > 0 && dump?.contents !== DumpContents.DATA_ONLY;
    return formatSuccess(
      paint,
      `${result.backup}  ${count(result.databases, "database")}, ${sizes} in ${formatElapsed(workedMs(operation))}, checked`,
      { facts: describeTakenOf(operation), next: isRestorable ? next : `coppice backup get ${result.backup}` },
    );
  },
  verifiedBackup: (result, operation, { paint }) =>
    formatVerifiedBackup(result, operation, { paint, tookMs: workedMs(operation) }),
  restorePlan: (plan, operation, { paint, now }) => {
    const { good, bad, facts, items } = describePlan(plan, operation, now);
    return formatLook(items, paint, { good, bad, facts });
  },
  restoredDatabase: (result, operation, { paint }) => {
    const { spec } = operation;
    const cluster = spec.case === "createRestore" ? spec.value.targetClusterName : result.cluster;
    const facts = result.warnings.map((warning) => `! ${warning}`);
    if (spec.case === "createRestore")
      facts.unshift(`from ${spec.value.backup || `${operation.hostName}:${spec.value.file}`}`);
    if (result.keptAs) facts.push(`the database before is kept as ${result.keptAs}: drop it when nobody needs it`);
    return formatSuccess(
      paint,
      `${result.database} is restored in ${cluster}: ${count(result.objects, "object")} compared, ${count(result.tables, "table")} with ${count(result.rows, "row")} counted, in ${formatElapsed(workedMs(operation))}`,
      { facts, next: "coppice status" },
    );
  },
  deletedBackup: (result, _operation, { paint }) =>
    formatSuccess(
      paint,
      `${result.backup} is deleted: ${count(result.objects, "object")} ${result.stays ? "hidden" : "gone"}`,
      {
        facts: result.stays ? [result.stays] : [],
        next: "coppice backup list",
      },
    ),
  cleanedRepository: (result, operation, { paint }) => {
    const { spec } = operation;
    const { repositoryName: name, dryRun } =
      spec.case === "cleanRepository" ? spec.value : { repositoryName: result.repository, dryRun: false };
    const found = `${count(result.objects, "unfinished object")}, ${formatSize(result.bytes)}`;
    if (result.objects === 0n) return formatSuccess(paint, `repository ${name} holds nothing that was left unfinished`);
    const facts = result.leavings;
    if (dryRun) {
      const next = `coppice repository clean ${name}`;
      return formatSuccess(paint, `repository ${name} holds ${found}; nothing was removed`, { facts, next });
    }
    return formatSuccess(paint, `${found} found in repository ${name}, ${result.removed} removed`, { facts });
  },
  rebuiltRepository: (result, operation, { paint }) => {
    const { spec } = operation;
    const name = spec.case === "rebuildRepository" ? spec.value.repositoryName : result.repository;
    const clusters = `${count(result.clusters.length, "cluster")}${result.clusters.length > 0 ? ` (${result.clusters.join(", ")})` : ""}`;
    const read = `${count(result.backups, "backup")} entered, ${result.knownBackups} known before, of ${clusters}`;
    const facts = [...result.problems, ...result.leftOut].map((what) => `! ${what}`);
    if (result.foreignObjects > 0n) {
      const shown = result.foreignKeys.join(", ");
      const rest = result.foreignObjects > BigInt(result.foreignKeys.length) ? ", …" : "";
      facts.push(`${count(result.foreignObjects, "object")} that no Coppice made, left alone: ${shown}${rest}`);
    }
    const next = `coppice backup list --repository ${name}`;
    if (result.problems.length === 0) {
      return formatSuccess(paint, `the catalog has what repository ${name} holds: ${read}`, { facts, next });
    }
    const message = `not all that repository ${name} holds could be entered: ${read}`;
    // What waits only for an identity is sound.
    const hint = result.undecrypted
      ? `coppice host update ${operation.hostName} --label may-decrypt=true, and then: coppice repository rebuild ${name}`
      : "mend what is named, and repeat it; what is whole was entered";
    return formatFailure({ message, hint, fields: [] }, paint) + linesOf(facts);
  },
  restoredGlobals: (result, operation, { paint }) =>
    formatRestoredGlobals(result, operation, { paint, took: formatElapsed(workedMs(operation)) }),
  restoredCluster: (result, operation, { paint }) =>
    formatRestoredCluster(result, operation, { paint, took: formatElapsed(workedMs(operation)) }),
  createdPhysicalBackup: (result, operation, { paint }) =>
    formatCreatedPhysicalBackup(result, operation, { paint, took: formatElapsed(workedMs(operation)) }),
  restoredDataDirectory: (result, operation, { paint }) =>
    formatRestoredDataDirectory(result, operation, { paint, took: formatElapsed(workedMs(operation)) }),
  verifiedWal: (result, operation, { paint }) =>
    formatVerifiedWal(result, operation, { paint, tookMs: workedMs(operation) }),
  cleanedWal: (result, operation, { paint }) =>
    formatCleanedWal(result, operation, { paint, tookMs: workedMs(operation) }),
  recoveredPart: (result, operation, { paint }) =>
    formatRecoveredPart(result, operation, { paint, took: formatElapsed(workedMs(operation)) }),
  decidedRestore: (result, operation, { paint }) => formatDecidedRestore(result, operation, { paint }),
  physicalPlan: (plan, operation, { paint, now }) => {
    const { good, bad, facts, items } = describePhysicalPlan(plan, operation, now);
    return formatLook(items, paint, { good, bad, facts });
  },
};

const linesOf = (facts: readonly string[]) => facts.map((fact) => `  ${printable(fact)}\n`).join("");

/** What only looks succeeds whatever it sees; what it saw decides how it reads, and what comes next. */
function formatLook(
  items: readonly CheckItem[],
  paint: Terminal["paint"],
  {
    good,
    bad,
    changes = [],
    facts = [],
    next,
  }: {
    good: string;
    bad: string;
    /** What was changed: said however it reads. */
    changes?: readonly string[];
    facts?: readonly string[];
    next?: string;
  },
): string {
  const failed = items.find(isFailed);
  if (failed) {
    const done = formatFailure({ message: bad, hint: failed.fix, fields: [] }, paint) + linesOf(changes);
    return done + formatChecks(items, paint);
  }
  const nextLine = next ? `  ${paint("dim", "next:")} ${next}\n` : "";
  return formatSuccess(paint, good, { facts: [...changes, ...facts] }) + formatChecks(items, paint) + nextLine;
}

const isFailed = ({ status }: CheckItem) => status === CheckStatus.FAILED;

/** Databases whose dumps would fail, of a cluster that was checked. */
const failingDumps = (items: readonly CheckItem[]) => [
  ...new Set(items.flatMap(({ database }) => (database === "" ? [] : [database]))),
];

/** Whether all that a check of a cluster saw is that some of its databases cannot be dumped. */
export function sawPartly({ result }: Operation): boolean {
  if (result.case !== "checkedCluster") return false;
  const { items, applied } = result.value;
  return !items.some(isFailed) && applied.every(({ problem }) => problem === "") && failingDumps(items).length > 0;
}

/** Whether an operation that looks, a check, a plan or a rebuild, saw that something does not work. */
export function sawTrouble({ result }: Operation): boolean {
  switch (result.case) {
    case "checkedCluster":
    case "checkedRepository":
      return result.value.items.some(isFailed) || result.value.applied.some(({ problem }) => problem !== "");
    case "physicalPlan":
      return result.value.items.some(isFailed);
    case "restorePlan":
      return itemsOfPlan(result.value).some(isFailed);
    case "rebuiltRepository":
      return result.value.problems.length > 0;
    case "cleanedRepository":
    case "cleanedWal":
    case "createdBackup":
    case "createdPhysicalBackup":
    case "decidedRestore":
    case "deletedBackup":
    case "recoveredPart":
    case "restoredCluster":
    case "restoredDataDirectory":
    case "restoredDatabase":
    case "restoredGlobals":
    case "verifiedBackup":
    case "verifiedWal":
    case undefined:
      return false;
  }
}

/** What a person gets to see of an operation that succeeded. */
export function formatOutcome(operation: Operation, context: OutcomeContext): string {
  const { result } = operation;
  if (result.case === undefined) {
    return formatSuccess(context.paint, `${operation.id} (${operation.kind.replaceAll("_", " ")}) is done`);
  }
  // The case and its value come together, which a lookup in a table cannot show to the type checker.
  const text = describe[result.case] as (
    value: typeof result.value,
    operation: Operation,
    context: OutcomeContext,
  ) => string;
  return text(result.value, operation, context);
}

/** What an operation was about and made, for `-o name`: the backup, the database, or the operation itself. */
export function outcomeName(operation: Operation): string {
  const { result } = operation;
  switch (result.case) {
    case "createdBackup":
    case "createdPhysicalBackup":
    case "verifiedBackup":
    case "deletedBackup":
      return result.value.backup;
    case "decidedRestore":
    case "restoredDatabase":
      return result.value.database;
    case "recoveredPart":
      return result.value.file || result.value.database;
    case "restoredDataDirectory":
      return result.value.dataDirectory;
    case "checkedCluster":
    case "checkedRepository":
    case "cleanedRepository":
    case "cleanedWal":
    case "physicalPlan":
    case "rebuiltRepository":
    case "restorePlan":
    case "restoredCluster":
    case "restoredGlobals":
    case "verifiedWal":
    case undefined:
      return operation.id;
  }
}
