import { create } from "@bufbuild/protobuf";
import {
  type PlanPhysicalResult,
  PlanPhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { toCheckItem } from "../../host/look.ts";
import { inspectRestore, type PhysicalRestore, type RestoreGround } from "./inspect.ts";

function describeSteps(
  { command }: PhysicalRestore,
  { chain, tablespaces, recovery, goesOn }: RestoreGround,
): string[] {
  const { dataDirectory, replace, start } = command;
  const isChain = chain.links.length > 1;
  const { archivedWal, startLsn, stopLsn } = chain.newest.content;
  const takesWal = recovery.restoreCommand === undefined && archivedWal.length > 0;
  const unpack = [
    `read ${chain.links.map(({ manifest }) => manifest.backupId).join(", ")}, every object's digest checked, and unpack beside ${dataDirectory}`,
    ...(isChain ? ["combine them by pg_combinebackup"] : []),
    "compare every file with PostgreSQL's own manifest: size and checksum",
    ...(takesWal ? [`put the archived WAL from ${startLsn} to ${stopLsn} into its pg_wal`] : []),
  ];
  return [
    ...(goesOn ? [`go on with what an earlier try has unpacked and compared, in ${goesOn.staging}`] : unpack),
    ...(replace ? [`move what is in ${dataDirectory} aside`] : []),
    `move it into place, pg_control last${tablespaces.length > 0 ? `, tablespaces to ${tablespaces.map(({ location }) => location).join(", ")}` : ""}`,
    "leave archiving, standby and slot settings of the source out",
    ...(start ? [describeStart(recovery.target.action)] : []),
  ];
}

function describeStart(action: RecoveryAction): string {
  if (action === RecoveryAction.PAUSE) return "start the server, and wait until it is at its target and pauses";
  if (action === RecoveryAction.SHUTDOWN) return "start the server, and wait until it has shut down at its target";
  return "start the server, and wait until it has recovered and accepts writes";
}

/** Says what a physical restore would do and whether it would be refused; changes nothing. */
export async function planPhysical(restore: PhysicalRestore): Promise<PlanPhysicalResult> {
  return describeGround(restore, await inspectRestore(restore));
}

/** What was looked at for a physical restore, and the steps of it, as the answer to a plan. */
export function describeGround(restore: PhysicalRestore, ground: RestoreGround): PlanPhysicalResult {
  return create(PlanPhysicalResultSchema, {
    items: ground.items.map(toCheckItem),
    steps: describeSteps(restore, ground),
    storedBytes: ground.chain.storedBytes,
    neededBytes: ground.chain.neededBytes,
    ...(ground.freeBytes === undefined ? {} : { freeBytes: ground.freeBytes }),
  });
}
