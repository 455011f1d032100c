import { and, asc, desc, eq, inArray, isNull, isNotNull, lt, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { type HostStateName, host } from "../schema/host.ts";
import { type OperationStateName, operation, operationAttempt } from "../schema/operation.ts";
import type { AttemptRow, OperationRow } from "./row.ts";

/** An operation with what is shown beside it. */
export interface OperationRecord {
  readonly row: OperationRow;
  readonly attempts: readonly AttemptRow[];
  /** Whose agent does the work; of a group that of the child that is done now, or was last. Undefined when removed. */
  readonly host:
    | { readonly id: string; readonly name: string; readonly state: HostStateName; readonly stateTime: Date }
    | undefined;
}

/** The operation of that id. */
export async function findOperation(db: Database, id: string): Promise<OperationRecord | undefined> {
  return (await complete(db, await db.select().from(operation).where(eq(operation.id, id))))[0];
}

/** The operation that the principal made with that request id. */
export async function findRequestedOperation(
  db: Database,
  principalId: string,
  requestId: string,
): Promise<OperationRow | undefined> {
  const [row] = await db
    .select()
    .from(operation)
    .where(and(eq(operation.principalId, principalId), eq(operation.requestId, requestId)));
  return row;
}

/** At most `limit` operations before the given id, newest first: ids grow with time. */
export async function listOperations(
  db: Database,
  page: {
    before?: string | undefined;
    limit: number;
    activeOnly?: boolean | undefined;
    clusterId?: string | undefined;
    /** The group that they are in. */
    parentId?: string | undefined;
  },
): Promise<OperationRecord[]> {
  const rows = await db
    .select()
    .from(operation)
    .where(
      and(
        page.before === undefined ? undefined : lt(operation.id, page.before),
        page.activeOnly === true ? isNull(operation.endTime) : undefined,
        page.clusterId === undefined ? undefined : eq(operation.clusterId, page.clusterId),
        page.parentId === undefined ? undefined : eq(operation.parentId, page.parentId),
      ),
    )
    .orderBy(desc(operation.id))
    .limit(page.limit);
  return complete(db, rows);
}

/** Operations of a host in the given states of which a command may be with its agent. */
export function listSent(db: Database, hostId: string, states: readonly OperationStateName[]): Promise<OperationRow[]> {
  return db
    .select()
    .from(operation)
    .where(and(eq(operation.hostId, hostId), inArray(operation.state, [...states]), isNotNull(operation.commandId)))
    .orderBy(asc(operation.id));
}

/** The operations of a group, in their order. */
export function listChildren(db: Database, parentId: string): Promise<OperationRow[]> {
  return db.select().from(operation).where(eq(operation.parentId, parentId)).orderBy(asc(operation.id));
}

async function complete(db: Database, rows: readonly OperationRow[]): Promise<OperationRecord[]> {
  if (rows.length === 0) return [];
  const attempts = await db
    .select()
    .from(operationAttempt)
    .where(
      inArray(
        operationAttempt.operationId,
        rows.map(({ id }) => id),
      ),
    )
    .orderBy(asc(operationAttempt.number));
  const hostIdOf = await hostIds(db, rows);
  const ids = [...new Set(hostIdOf.values())];
  const hosts = ids.length === 0 ? [] : await db.select().from(host).where(inArray(host.id, ids));
  const hostById = new Map(hosts.map((one) => [one.id, one]));
  return rows.map((row) => ({
    row,
    attempts: attempts.filter(({ operationId }) => operationId === row.id),
    host: hostById.get(hostIdOf.get(row.id) ?? ""),
  }));
}

async function hostIds(db: Database, rows: readonly OperationRow[]): Promise<Map<string, string>> {
  const own = rows.flatMap(({ id, hostId }) => (hostId === null ? [] : [[id, hostId] as const]));
  const without = rows.filter(({ hostId }) => hostId === null).map(({ id }) => id);
  if (without.length === 0) return new Map(own);
  const ended = sql`${operation.endTime} is not null`;
  const children = await db
    .selectDistinctOn([operation.parentId], { id: operation.parentId, hostId: operation.hostId })
    .from(operation)
    .where(inArray(operation.parentId, without))
    .orderBy(
      asc(operation.parentId),
      ended,
      sql`case when ${ended} then null else ${operation.id} end`,
      desc(operation.id),
    );
  const ofGroups = children.flatMap(({ id, hostId }) =>
    id === null || hostId === null ? [] : [[id, hostId] as const],
  );
  return new Map([...own, ...ofGroups]);
}
