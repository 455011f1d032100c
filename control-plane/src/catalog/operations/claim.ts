import { and, asc, count, eq, exists, gte, inArray, isNull, lte, ne, not, notInArray, or, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/pg-core";
import type { Database } from "../catalog.ts";
import { host } from "../schema/host.ts";
import { operation } from "../schema/operation.ts";
import type { OperationRow } from "./row.ts";

/** The session that asks: only the present session of a host may take its work. */
export interface Claimant {
  readonly hostId: string;
  readonly sessionEpoch: bigint;
}

const isDue = or(isNull(operation.retryAt), lte(operation.retryAt, sql`now()`));

/**
 * Whether the session is still the host's present one, which it then stays until the transaction ends: a newer one
 * waits, and so finds everything that this one has taken.
 */
export async function holdSession(tx: Database, { hostId, sessionEpoch }: Claimant): Promise<boolean> {
  const rows = await tx
    .select({ id: host.id })
    .from(host)
    .where(and(eq(host.id, hostId), eq(host.sessionEpoch, sessionEpoch)))
    .for("share");
  return rows.length > 0;
}

/**
 * Locks the oldest queued operation of the host that may be sent now; whoever asks at the same time gets another one.
 * A backup waits for the backups of the same cluster into the same repository that are under way, one of a group for
 * the success of the one before it, and each of the limited kinds waits while the host is busy with as many of that kind as it may be.
 */
export async function lockQueued(
  tx: Database,
  hostId: string,
  limit: { readonly kinds: readonly string[]; readonly atOnce: number },
): Promise<OperationRow | undefined> {
  const other = alias(operation, "other");
  const waitsForSameWork = and(
    inArray(operation.kind, ["create_backup", "create_physical_backup"]),
    exists(
      tx
        .select({ one: sql`1` })
        .from(other)
        .where(
          and(
            eq(other.kind, operation.kind),
            eq(other.clusterId, operation.clusterId),
            eq(other.repositoryId, operation.repositoryId),
            inArray(other.state, ["DISPATCHED", "RUNNING", "CANCELLING", "INDETERMINATE"]),
          ),
        ),
    ),
  );
  const predecessor = alias(operation, "predecessor");
  const waitsForPredecessor = exists(
    tx
      .select({ one: sql`1` })
      .from(predecessor)
      .where(and(eq(predecessor.id, operation.afterId), ne(predecessor.state, "SUCCEEDED"))),
  );
  // No row of the host is claimed meanwhile: only one session does that.
  const busy = await tx
    .select({ kind: operation.kind })
    .from(operation)
    .where(
      and(
        eq(operation.hostId, hostId),
        inArray(operation.state, ["DISPATCHED", "RUNNING", "CANCELLING"]),
        inArray(operation.kind, [...limit.kinds]),
      ),
    )
    .groupBy(operation.kind)
    .having(gte(count(), limit.atOnce));
  const [row] = await tx
    .select()
    .from(operation)
    .where(
      and(
        eq(operation.hostId, hostId),
        eq(operation.state, "QUEUED"),
        notInArray(
          operation.kind,
          busy.map(({ kind }) => kind),
        ),
        isDue,
        not(sql`coalesce(${waitsForSameWork}, false)`),
        not(waitsForPredecessor),
      ),
    )
    .orderBy(asc(operation.id))
    .limit(1)
    .for("update", { skipLocked: true });
  return row;
}

/** Locks an operation of the host whose outcome is unknown and that nobody looks after yet. */
export async function lockUnsettled(tx: Database, hostId: string): Promise<OperationRow | undefined> {
  const [row] = await tx
    .select()
    .from(operation)
    .where(and(eq(operation.hostId, hostId), eq(operation.state, "INDETERMINATE"), isNull(operation.commandId), isDue))
    .orderBy(asc(operation.id))
    .limit(1)
    .for("update", { skipLocked: true });
  return row;
}

/** Milliseconds until the next operation of the host that waits for its time may be sent; undefined when none waits. */
export async function nextDueMs(db: Database, hostId: string): Promise<number | undefined> {
  const [row] = await db
    .select({ ms: sql<string | null>`extract(epoch from min(${operation.retryAt}) - clock_timestamp()) * 1000` })
    .from(operation)
    .where(and(eq(operation.hostId, hostId), inArray(operation.state, ["QUEUED", "INDETERMINATE"])));
  return row === undefined || row.ms === null ? undefined : Math.max(1, Math.ceil(Number(row.ms)));
}
