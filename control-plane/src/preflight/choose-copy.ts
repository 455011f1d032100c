import { fail } from "@coppice/proto/kit/failure";
import type { BackupCopyRow, BackupRecord } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { requireRepository } from "../inventory/require.ts";
import type { RepositoryRow } from "../catalog/repository.ts";

/** A copy and the repository that holds it. */
export interface PlacedCopy {
  readonly copy: BackupCopyRow;
  readonly repository: RepositoryRow;
}

/**
 * The copy in that repository (name or id), or the only one. Errors: REPOSITORY_NOT_FOUND, BACKUP_NOT_FOUND when the
 * repository does not hold the backup, REPOSITORY_AMBIGUOUS.
 */
export async function chooseCopy(db: Database, backup: BackupRecord, reference: string): Promise<PlacedCopy> {
  const { id } = backup.row;
  if (reference !== "") {
    const repository = await requireRepository(db, reference);
    const copy = backup.copies.find(({ repositoryId }) => repositoryId === repository.id);
    if (copy === undefined) fail("BACKUP_NOT_FOUND", `repository ${repository.name} holds no copy of backup ${id}`);
    return { copy, repository };
  }
  const placed = await placeCopies(db, backup);
  const [only, ...others] = placed;
  if (only === undefined) return fail("BACKUP_NOT_FOUND", `backup ${id} has no copy`);
  if (others.length === 0) return only;
  const names = placed.map(({ repository }) => repository.name).join(", ");
  return fail("REPOSITORY_AMBIGUOUS", `backup ${id} has copies in several repositories: ${names}`, {
    hint: `name one of them: --repository ${only.repository.name}`,
    metadata: { repositories: names },
  });
}

/** Every copy with its repository. */
export function placeCopies(db: Database, { copies }: BackupRecord): Promise<PlacedCopy[]> {
  return Promise.all(
    copies.map(async (copy) => ({ copy, repository: await requireRepository(db, copy.repositoryId) })),
  );
}
