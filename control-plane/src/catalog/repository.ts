import type { JsonValue } from "@bufbuild/protobuf";
import { asc, count, eq, gt, inArray, sql, sum } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { isReferredBy } from "./reference.ts";
import { backup, backupCopy } from "./schema/backup.ts";
import { repository } from "./schema/repository.ts";
import { secret } from "./schema/secret.ts";

export type RepositoryRow = typeof repository.$inferSelect;

/** Sealed credentials by purpose; null falls back on the one to write, and without that on the hosts' own. */
export interface RepositorySecretIds {
  readonly writeSecretId: string | null;
  readonly readSecretId: string | null;
  readonly deleteSecretId: string | null;
}

/** The repository of that name or id. */
export async function findRepository(db: Database, reference: string): Promise<RepositoryRow | undefined> {
  const [row] = await db.select().from(repository).where(isReferredBy(repository, reference));
  return row;
}

/** The same, locked until the transaction ends. */
export async function lockRepository(db: Database, reference: string): Promise<RepositoryRow | undefined> {
  const [row] = await db.select().from(repository).where(isReferredBy(repository, reference)).for("update");
  return row;
}

/** At most `limit` repositories after the name, in order of their names; all without a limit. */
export async function listRepositories(
  db: Database,
  page: { after?: string | undefined; limit?: number } = {},
): Promise<RepositoryRow[]> {
  const query = db
    .select()
    .from(repository)
    .where(page.after === undefined ? undefined : gt(repository.name, page.after))
    .orderBy(asc(repository.name));
  return page.limit === undefined ? query : query.limit(page.limit);
}

/** Backups and bytes that the catalog knows in each repository; one without any is missing. */
export async function repositoryContents(
  db: Database,
  ids: readonly string[],
): Promise<Map<string, { backups: number; storedBytes: bigint }>> {
  if (ids.length === 0) return new Map();
  const rows = await db
    .select({ id: backupCopy.repositoryId, backups: count(), storedBytes: sum(backup.storedBytes) })
    .from(backupCopy)
    .innerJoin(backup, eq(backup.id, backupCopy.backupId))
    .where(inArray(backupCopy.repositoryId, [...ids]))
    .groupBy(backupCopy.repositoryId);
  return new Map(rows.map(({ id, backups, storedBytes }) => [id, { backups, storedBytes: BigInt(storedBytes ?? 0) }]));
}

/** A new repository. Fails with NAME_TAKEN or REPOSITORY_EXISTS, when in a catalog transaction. */
export async function insertRepository(
  db: Database,
  row: RepositorySecretIds & {
    id: string;
    name: string;
    labels: Record<string, string>;
    location: JsonValue;
    locationKey: string;
    homeHostId: string | null;
    encryption: JsonValue | null;
    identitySecretId: string | null;
  },
): Promise<RepositoryRow> {
  const [inserted] = await db.insert(repository).values(row).returning();
  if (inserted === undefined) throw new Error("the repository was not inserted");
  return inserted;
}

/** Changes what may change of a repository, and its version. */
export async function updateRepository(
  db: Database,
  id: string,
  changes: Partial<RepositorySecretIds> & { location?: JsonValue },
): Promise<void> {
  await db
    .update(repository)
    .set({ ...changes, version: sql`${repository.version} + 1`, updateTime: sql`now()` })
    .where(eq(repository.id, id));
}

/** Forgets a repository and its secrets. Fails with REPOSITORY_IN_USE while it has backups, when in a catalog transaction. */
export async function deleteRepository(db: Database, row: RepositoryRow): Promise<void> {
  await db.delete(repository).where(eq(repository.id, row.id));
  const ids = [row.writeSecretId, row.readSecretId, row.deleteSecretId, row.identitySecretId].filter(
    (id) => id !== null,
  );
  if (ids.length > 0) await db.delete(secret).where(inArray(secret.id, ids));
}

/** Names of repositories by their ids. */
export async function repositoryNames(db: Database, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map();
  const rows = await db
    .select({ id: repository.id, name: repository.name })
    .from(repository)
    .where(inArray(repository.id, [...new Set(ids)]));
  return new Map(rows.map(({ id, name }) => [id, name]));
}
