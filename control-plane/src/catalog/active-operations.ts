import type { JsonValue } from "@bufbuild/protobuf";
import { and, asc, eq, exists, isNull, ne, not, or, sql } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { backup } from "./schema/backup.ts";
import { operation, operationBackup } from "./schema/operation.ts";

/** Whether operations that have not ended are about the resource. */
export async function hasActiveOperations(
  db: Database,
  about: { clusterId: string } | { repositoryId: string } | { hostId: string },
): Promise<boolean> {
  const subject =
    "clusterId" in about
      ? eq(operation.clusterId, about.clusterId)
      : "repositoryId" in about
        ? eq(operation.repositoryId, about.repositoryId)
        : eq(operation.hostId, about.hostId);
  const rows = await db
    .select({ id: operation.id })
    .from(operation)
    .where(and(subject, isNull(operation.endTime)))
    .limit(1);
  return rows.length > 0;
}

/** Specs, as the catalog keeps them, of the operations on a repository that have not ended. */
export async function listActiveSpecs(db: Database, repositoryId: string): Promise<JsonValue[]> {
  const rows = await db
    .select({ spec: operation.spec })
    .from(operation)
    .where(and(eq(operation.repositoryId, repositoryId), isNull(operation.endTime)));
  return rows.map(({ spec }) => spec);
}

/**
 * An operation that has not ended and may read WAL of the cluster, or write a backup that needs some: one on the cluster, or
 * that uses a backup of it. Looks at the cluster, and at what could be deleted, do not count.
 */
export async function findWalUser(
  db: Database,
  clusterId: string,
): Promise<{ readonly id: string; readonly kind: string } | undefined> {
  const usesBackup = exists(
    db
      .select({ one: sql`1` })
      .from(operationBackup)
      .innerJoin(backup, eq(backup.id, operationBackup.backupId))
      .where(and(eq(operationBackup.operationId, operation.id), eq(backup.clusterId, clusterId))),
  );
  const [row] = await db
    .select({ id: operation.id, kind: operation.kind })
    .from(operation)
    .where(
      and(
        isNull(operation.endTime),
        or(eq(operation.clusterId, clusterId), usesBackup),
        ne(operation.kind, "check_cluster"),
        not(isLook),
      ),
    )
    .orderBy(asc(operation.id))
    .limit(1);
  return row;
}

/** An operation that has not ended and deletes WAL of the cluster. */
export async function findWalCleaning(db: Database, clusterId: string): Promise<string | undefined> {
  const [row] = await db
    .select({ id: operation.id })
    .from(operation)
    .where(
      and(isNull(operation.endTime), eq(operation.clusterId, clusterId), eq(operation.kind, "clean_wal"), not(isLook)),
    )
    .limit(1);
  return row?.id;
}

const isLook = sql`coalesce((${operation.spec}->'cleanWal'->>'dryRun')::boolean, false)`;
