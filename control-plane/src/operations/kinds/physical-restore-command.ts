import { create } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import type { RestorePhysicalSpec } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { type Facts, type References, required } from "./kind.ts";

/** What a restore of a data directory reads: the chain of backups, and the archived WAL where some is replayed. */
export function physicalRestoreReferences({ chain, repository, walRepository }: RestorePhysicalSpec): References {
  return {
    chain: chain.map((backupId) => ({ backupId, repositoryId: repository })),
    ...(walRepository === "" ? {} : { walRepositoryId: walRepository }),
    purposes: ["read"],
    decrypts: true,
  };
}

/** The command of such a restore; its plan is asked for with the same one. */
export function physicalRestoreCommand(spec: RestorePhysicalSpec, facts: Facts): RestorePhysicalCommand {
  return create(RestorePhysicalCommandSchema, {
    chain: required(facts.chain).map(({ address }) => address),
    ...(facts.walRepository ? { walRepository: facts.walRepository } : {}),
    target: spec.serverTarget ?? create(RecoveryTargetSchema),
    dataDirectory: spec.dataDirectory,
    tablespaces: Object.entries(spec.tablespaces).map(([oid, location]) => ({
      oid: Number(oid),
      location,
      named: spec.namedTablespaces.includes(Number(oid)),
    })),
    replace: spec.replace,
    start: spec.start,
    port: spec.port,
    expectedEndLsn: spec.expectedEndLsn,
    walEndLsn: spec.walEndLsn,
    warnings: spec.warnings,
    keepFailed: spec.keepFailed,
  });
}
