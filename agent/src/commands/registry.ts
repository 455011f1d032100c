import { backupDumpCommand } from "./backup-dump.ts";
import { checkClusterCommand } from "./check-cluster.ts";
import { checkRepositoryCommand } from "./check-repository.ts";
import { deleteBackupCommand } from "./delete-backup.ts";
import type { Handlers } from "./handler.ts";
import { planRestoreCommand } from "./plan-restore.ts";
import { restoreDatabaseCommand } from "./restore-database.ts";
import { settleCommand } from "./settle.ts";
import { verifyBackupCommand } from "./verify-backup.ts";

/** What this agent can do; its keys are the capabilities that it tells the control plane. */
export const handlers = {
  checkCluster: checkClusterCommand,
  checkRepository: checkRepositoryCommand,
  backupDump: backupDumpCommand,
  verifyBackup: verifyBackupCommand,
  planRestore: planRestoreCommand,
  restoreDatabase: restoreDatabaseCommand,
  deleteBackup: deleteBackupCommand,
  settle: settleCommand,
} satisfies Handlers;
