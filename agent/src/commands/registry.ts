import { backupDumpCommand } from "./backup-dump.ts";
import { backupPhysicalCommand } from "./backup-physical.ts";
import { checkClusterCommand } from "./check-cluster.ts";
import { checkRepositoryCommand } from "./check-repository.ts";
import { cleanRepositoryCommand } from "./clean-repository.ts";
import { cleanWalCommand } from "./clean-wal.ts";
import { decideRestoreCommand } from "./decide-restore.ts";
import { deleteBackupCommand } from "./delete-backup.ts";
import type { Handlers } from "./handler.ts";
import { planPartCommand } from "./plan-part.ts";
import { planPhysicalCommand } from "./plan-physical.ts";
import { planRestoreCommand } from "./plan-restore.ts";
import { recoverPartCommand } from "./recover-part.ts";
import { restoreDatabaseCommand } from "./restore-database.ts";
import { restoreGlobalsCommand } from "./restore-globals.ts";
import { restorePhysicalCommand } from "./restore-physical.ts";
import { scanRepositoryCommand } from "./scan-repository.ts";
import { settleCommand } from "./settle.ts";
import { verifyBackupCommand } from "./verify-backup.ts";
import { verifyWalCommand } from "./verify-wal.ts";

/** What this agent can do; its keys are the capabilities that it tells the control plane. */
export const handlers = {
  checkCluster: checkClusterCommand,
  checkRepository: checkRepositoryCommand,
  backupDump: backupDumpCommand,
  backupPhysical: backupPhysicalCommand,
  verifyBackup: verifyBackupCommand,
  planRestore: planRestoreCommand,
  restoreDatabase: restoreDatabaseCommand,
  restoreGlobals: restoreGlobalsCommand,
  deleteBackup: deleteBackupCommand,
  settle: settleCommand,
  scanRepository: scanRepositoryCommand,
  cleanRepository: cleanRepositoryCommand,
  restorePhysical: restorePhysicalCommand,
  planPhysical: planPhysicalCommand,
  verifyWal: verifyWalCommand,
  cleanWal: cleanWalCommand,
  recoverPart: recoverPartCommand,
  planPart: planPartCommand,
  decideRestore: decideRestoreCommand,
} satisfies Handlers;
