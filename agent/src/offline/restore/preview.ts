import { create } from "@bufbuild/protobuf";
import type { PlanRestoreResult } from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import {
  type RestoreGlobalsResult,
  RestoreGlobalsCommandSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { type Failure, isFailure } from "@coppice/proto/kit/failure";
import { leftOutOfCluster } from "@coppice/proto/kit/repository/left-out";
import { formatSize } from "@coppice/proto/kit/size";
import { restoreGlobals } from "../../logical/globals/restore-globals.ts";
import { planRestore, type Promised } from "../../logical/plan.ts";
import { formatAddress } from "../../postgres/endpoint.ts";
import { formatTime } from "../listing.ts";
import { showName } from "../show-name.ts";
import type { Restoring, Step } from "./steps.ts";

/** What a restore would do. */
export interface Preview {
  readonly lines: readonly string[];
  /** Databases whose stored bytes are damaged; the others can be restored. */
  readonly lost: readonly Failure[];
  /** What would be refused: the message and what mends it. */
  readonly refusals: readonly { readonly message: string; readonly fix: string }[];
}

/** Applies the backup's roles and tablespaces, or only says what would be done. Fails as restoreGlobals. */
export async function applyGlobals(restoring: Restoring, dryRun: boolean): Promise<RestoreGlobalsResult> {
  const { backup, endpoint, password, identities, files, storage, signal } = restoring;
  const command = create(RestoreGlobalsCommandSchema, { backup: backup.address, connection: { endpoint }, dryRun });
  return await restoreGlobals({ command, password, identities, files, storage, signal });
}

/** What came of the globals, or would, for people. */
export function formatGlobals({
  createdRoles,
  createdTablespaces,
  differences,
  skipped,
}: RestoreGlobalsResult): string[] {
  const made = (what: string, names: readonly string[]) =>
    `${names.length} new ${what}${names.length === 1 ? "" : "s"}${names.length === 0 ? "" : ` (${names.map(showName).join(", ")})`}`;
  return [
    `${made("role", createdRoles)}, ${made("tablespace", createdTablespaces)}`,
    ...differences.map((difference) => `  ! as it is there: ${difference}`),
    ...skipped.map((each) => `  ! left out: ${each}`),
  ];
}

const marks = { [CheckStatus.FAILED]: "✗", [CheckStatus.WARNING]: "!", [CheckStatus.OK]: "✓" };

function describe(
  step: Step,
  { items, databaseBytes, storedBytes, steps }: PlanRestoreResult,
  isOne: boolean,
): string[] {
  const { database, targetDatabase, keptDatabase } = step.command;
  const as = database === targetDatabase ? "" : ` as ${showName(targetDatabase)}`;
  const aside = step.isInitial
    ? ", in place of the empty one"
    : keptDatabase === ""
      ? ""
      : `; the present one is kept as ${showName(keptDatabase)}`;
  const shown = isOne ? items : items.filter(({ status }) => status !== CheckStatus.OK);
  return [
    `${showName(database)}${as}: ${formatSize(storedBytes)} to read, ${formatSize(databaseBytes)} when it was dumped${aside}`,
    ...shown.map(
      ({ name, message, status }) =>
        `  ${status in marks ? marks[status as keyof typeof marks] : " "} ${name}  ${message}`,
    ),
    ...(isOne ? steps.map((line, index) => `  ${index + 1}. ${line}`) : []),
  ];
}

/** Damage of one database is no reason to give up the others. */
async function planOrLost(
  restoring: Restoring,
  { command }: Step,
  promised: Promised,
): Promise<PlanRestoreResult | Failure> {
  try {
    return await planRestore({ ...restoring, command, promised });
  } catch (error) {
    if (isFailure(error) && error.code === "data_loss") return error;
    throw error;
  }
}

/** Which backup is taken, and where it goes. */
export function describeSource({ backup, resolved, wish }: Restoring): string[] {
  const { clusterName, backupId, complete, content } = backup.manifest;
  const options = wish.globals && content.case === "dump" ? content.value.options : undefined;
  const leftOut = options ? leftOutOfCluster(options) : [];
  return [
    `${backupId} of ${showName(clusterName)}, taken ${formatTime(backup.startTime)}, into ${formatAddress(resolved)}`,
    ...(complete ? [] : ["! the backup is incomplete: some databases are not in it"]),
    ...(leftOut.length === 0 ? [] : [`! the backup leaves out: ${leftOut.join(", ")}`]),
  ];
}

/** Looks at everything that the steps depend on; nothing is changed. Fails where not even the looking works. */
export async function previewRestore(restoring: Restoring, steps: readonly Step[]): Promise<Preview> {
  const { wish, signal } = restoring;
  const lines = describeSource(restoring);
  const refusals: { message: string; fix: string }[] = [];
  const lost: Failure[] = [];
  const globals = wish.globals ? await applyGlobals(restoring, true) : undefined;
  if (globals) lines.push(`globals: ${formatGlobals(globals).join("\n")}`);
  const promised = { roles: globals?.createdRoles ?? [], tablespaces: globals?.createdTablespaces ?? [] };
  let [needed, free]: [bigint, bigint | undefined] = [0n, undefined];
  for (const step of steps) {
    signal.throwIfAborted();
    if (step.isInPlace) {
      lines.push(`${showName(step.command.database)}: in place already, from an earlier run`);
      continue;
    }
    restoring.progress.update(create(WorkDoneSchema, { phase: "looking at", item: step.command.database }));
    const plan = await planOrLost(restoring, step, promised);
    if (isFailure(plan)) {
      lost.push(plan);
      lines.push(`✗ ${showName(step.command.database)}: ${plan.message}`);
      continue;
    }
    lines.push(...describe(step, plan, steps.length === 1));
    for (const { status, message, fix } of plan.items)
      if (status === CheckStatus.FAILED) refusals.push({ message, fix });
    needed += plan.databaseBytes;
    free = plan.freeBytes ?? free;
  }
  const all = `all of it needs ${formatSize(needed)}`;
  lines.push(free === undefined ? all : `${all}, ${formatSize(free)} are free`);
  if (free !== undefined && free < needed && steps.length > 1)
    refusals.push({ message: `${all}, and only ${formatSize(free)} are free`, fix: "make room for the server's data" });
  return { lines, lost, refusals };
}
