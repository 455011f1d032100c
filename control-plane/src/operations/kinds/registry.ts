import { checkCluster } from "./check-cluster.ts";
import { checkRepository } from "./check-repository.ts";
import { cleanRepository } from "./clean-repository.ts";
import { cleanWal } from "./clean-wal.ts";
import { createBackup } from "./create-backup.ts";
import { createPhysicalBackup } from "./create-physical-backup.ts";
import { createRestore } from "./create-restore.ts";
import { decideRestore } from "./decide-restore.ts";
import { deleteBackup } from "./delete-backup.ts";
import type { Kind, SpecCase } from "./kind.ts";
import { planPart } from "./plan-part.ts";
import { planPhysical } from "./plan-physical.ts";
import { planRestore } from "./plan-restore.ts";
import { rebuildRepository } from "./rebuild-repository.ts";
import { recoverPart } from "./recover-part.ts";
import { restoreCluster } from "./restore-cluster.ts";
import { restoreGlobals } from "./restore-globals.ts";
import { restorePhysical } from "./restore-physical.ts";
import { verifyBackup } from "./verify-backup.ts";
import { verifyWal } from "./verify-wal.ts";

/** Every kind of operation; one that is missing here does not compile. */
export const kinds = {
  checkCluster,
  checkRepository,
  createBackup,
  verifyBackup,
  planRestore,
  createRestore,
  deleteBackup,
  restoreGlobals,
  restoreCluster,
  cleanRepository,
  rebuildRepository,
  createPhysicalBackup,
  restorePhysical,
  planPhysical,
  verifyWal,
  cleanWal,
  recoverPart,
  planPart,
  decideRestore,
} satisfies { readonly [S in SpecCase]: Kind<S> };
