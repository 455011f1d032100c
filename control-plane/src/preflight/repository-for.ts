import type { Database } from "../catalog/catalog.ts";
import { listBackups } from "../catalog/backup.ts";
import { findHost, type HostRow } from "../catalog/host.ts";
import { findWalArchive } from "../catalog/physical/wal-archive.ts";
import { listRepositories, type RepositoryRow } from "../catalog/repository.ts";
import { requireRepository } from "../inventory/require.ts";
import { chooseRepository, requireReachable } from "./choose-repository.ts";

/** Whose repository is looked for. */
export interface Stored {
  readonly clusterId: string;
  /** The host that writes into it. */
  readonly host: HostRow;
}

/**
 * The repository that is named, or, where none is, that of the cluster's WAL, else of its newest backup, else the only one
 * that the host reaches. Errors: REPOSITORY_NOT_FOUND, REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST.
 */
export async function repositoryFor(db: Database, name: string, { clusterId, host }: Stored): Promise<RepositoryRow> {
  const repository =
    name === ""
      ? chooseRepository(await listRepositories(db), host, await usualRepositories(db, clusterId))
      : await requireRepository(db, name);
  requireReachable(repository, await findHost(db, repository.homeHostId ?? ""), host);
  return repository;
}

async function usualRepositories(db: Database, clusterId: string): Promise<string[]> {
  const archive = await findWalArchive(db, clusterId);
  const [newest] = await listBackups(db, { clusterId, limit: 1 });
  return [...(archive ? [archive.repositoryId] : []), ...(newest?.copies.map((copy) => copy.repositoryId) ?? [])];
}
