import { create } from "@bufbuild/protobuf";
import type { VerifyBackupRequest } from "@coppice/proto/gen/coppice/control/v1/backup";
import { VerifyBackupSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import type { BackupRecord } from "../catalog/backup.ts";
import { listPhysicalCopies } from "../catalog/physical/copies.ts";
import { requireBackup } from "../inventory/require.ts";
import { chooseCopy } from "./choose-copy.ts";
import { chooseWorker } from "./choose-worker.ts";
import type { Prepared } from "./prepared.ts";
import { primaryHost } from "./server/primary-instance.ts";

/** Resolves a request for a verification. Errors: BACKUP_NOT_FOUND, REPOSITORY_NOT_FOUND, REPOSITORY_AMBIGUOUS. */
export async function prepareVerification(db: Database, request: VerifyBackupRequest): Promise<Prepared> {
  const backup = await requireBackup(db, request.backup);
  const { copy, repository } = await chooseCopy(db, backup, request.repository);
  const { id, clusterId } = backup.row;
  const { parents, missing } = await findParents(db, backup, repository.id);
  const host = await chooseWorker(db, {
    repository,
    host: request.host,
    preferred: await primaryHost(db, clusterId),
    decrypts: request.content,
  });
  return {
    operationId: newId("op"),
    spec: {
      case: "verifyBackup",
      value: create(VerifyBackupSpecSchema, {
        backup: id,
        repository: repository.id,
        cluster: clusterId,
        content: request.content,
        parents,
        missingParents: missing,
      }),
    },
    hostId: host.id,
    clusterId,
    repositoryId: repository.id,
    subject: { id, name: copy.folder },
    backups: [id, ...parents],
  };
}

/** What a backup builds on, the full one first, and what of it is not in the repository. */
async function findParents(
  db: Database,
  { row }: BackupRecord,
  repositoryId: string,
): Promise<{ parents: string[]; missing: string[] }> {
  if (row.parentId === null) return { parents: [], missing: [] };
  const copies = await listPhysicalCopies(db, row.clusterId);
  const [parents, missing]: [string[], string[]] = [[], []];
  for (let id: string | null = row.parentId; id !== null;) {
    const present: string = id;
    const own = copies.filter((copy) => copy.id === present);
    (own.some((copy) => copy.repositoryId === repositoryId) ? parents : missing).unshift(present);
    id = own[0]?.parentId ?? null;
  }
  return { parents, missing };
}
