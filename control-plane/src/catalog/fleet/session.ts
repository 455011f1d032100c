import { and, eq, isNull, lt, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { certificate, host, type HostStateName } from "../schema/host.ts";

/** The number of a new session. */
export async function nextSessionEpoch(db: Database): Promise<bigint> {
  const [row] = await db.execute<{ epoch: string }>(sql`select nextval('session_epoch')::text as epoch`);
  if (row === undefined) throw new Error("the sequence gave no epoch");
  return BigInt(row.epoch);
}

/** What an agent says of itself when its session begins. */
export interface NewSession {
  readonly hostId: string;
  /** Of the certificate that let it in. */
  readonly fingerprint: string;
  readonly epoch: bigint;
  readonly bootId: string;
  readonly agentVersion: string;
  readonly machineName: string;
  readonly capabilities: readonly string[];
  /** Another process of the agent may be alive when it was heard within this time. */
  readonly silentMs: number;
  /** How long ago the agent asked: another process that was heard since is alive. */
  readonly askedMs: number;
}

/** What became of a new session. */
export type Acceptance =
  | "accepted"
  /** Another process with the same certificate is alive. */
  | "cloned"
  /** It may be alive, or gone without anybody having noticed yet: ask again. */
  | "undecided"
  /** A newer session was there already, or its agent has enrolled again since. */
  | "outdated"
  /** The host was removed, or the certificate was revoked since it let the agent in. */
  | "removed";

/**
 * Makes the session the host's present one, unless another process with the same certificate is, or may be, alive.
 * Whoever holds an earlier session of the host, on any replica, is told.
 */
export async function acceptSession(tx: Database, session: NewSession): Promise<Acceptance> {
  const { hostId, fingerprint, epoch, bootId, agentVersion, machineName, silentMs, askedMs } = session;
  const heardWithin = (ms: number) =>
    sql<boolean>`${host.state} = 'CONNECTED'
      and ${host.lastSeenTime} > clock_timestamp() - ${ms}::float8 * interval '1 millisecond'`;
  const [row] = await tx
    .select({
      bootId: host.bootId,
      epoch: host.sessionEpoch,
      mayBeAlive: heardWithin(silentMs),
      isAlive: heardWithin(askedMs),
    })
    .from(host)
    .where(eq(host.id, hostId))
    .for("update");
  if (row === undefined) return "removed";
  if (row.epoch > epoch) return "outdated";
  // Whoever revokes locks the host's row first, so that nobody does while this is decided.
  const valid = await tx
    .select({ fingerprint: certificate.fingerprint })
    .from(certificate)
    .where(and(eq(certificate.fingerprint, fingerprint), isNull(certificate.revokeTime)));
  if (valid.length === 0) return "removed";
  if (row.bootId !== bootId && row.isAlive) return "cloned";
  if (row.bootId !== bootId && row.mayBeAlive) return "undecided";
  await tx
    .update(host)
    .set({
      state: "CONNECTED",
      stateTime: sql`case when ${host.state} = 'CONNECTED' then ${host.stateTime} else now() end`,
      lastSeenTime: sql`now()`,
      sessionEpoch: epoch,
      bootId,
      agentVersion,
      machineName,
      capabilities: [...session.capabilities],
    })
    .where(eq(host.id, hostId));
  await notifyHost(tx, hostId);
  return "accepted";
}

/** What a sign of life meant: `back` when the host was taken for lost, `replaced` when it has a newer session. */
export type SignOfLife = "known" | "back" | "replaced";

/** Notes a sign of life of a session; a host that a sweep took for lost meanwhile is connected again. */
export async function noteAlive(db: Database, hostId: string, epoch: bigint): Promise<SignOfLife> {
  const [row] = await db
    .update(host)
    .set({
      state: "CONNECTED",
      stateTime: sql`case when ${host.state} = 'CONNECTED' then ${host.stateTime} else now() end`,
      lastSeenTime: sql`now()`,
    })
    .where(and(eq(host.id, hostId), eq(host.sessionEpoch, epoch)))
    .returning({ isBack: sql<boolean>`${host.stateTime} = now()` });
  if (row === undefined) return "replaced";
  return row.isBack ? "back" : "known";
}

/** Notes how the session ended; false when a newer one has replaced it or the host was removed. */
export async function noteSessionEnd(
  tx: Database,
  { hostId, epoch, state }: { hostId: string; epoch: bigint; state: HostStateName },
): Promise<boolean> {
  const rows = await tx
    .update(host)
    .set({ state, stateTime: sql`now()` })
    .where(and(eq(host.id, hostId), eq(host.sessionEpoch, epoch), eq(host.state, "CONNECTED")))
    .returning({ id: host.id });
  return rows.length > 0;
}

/** Hosts whose agent was not heard for that time, although nobody has noted its end: a replica was lost with it. */
export async function noteSilentHosts(tx: Database, silentMs: number): Promise<string[]> {
  const rows = await tx
    .update(host)
    .set({ state: "UNKNOWN", stateTime: sql`now()` })
    .where(
      and(
        eq(host.state, "CONNECTED"),
        lt(host.lastSeenTime, sql`now() - ${silentMs}::float8 * interval '1 millisecond'`),
      ),
    )
    .returning({ id: host.id });
  return rows.map(({ id }) => id);
}

/** Ends whatever session the host has, on any replica: no session's epoch is the host's any more. */
export async function endSessions(tx: Database, hostId: string): Promise<void> {
  await tx
    .update(host)
    .set({
      sessionEpoch: sql`nextval('session_epoch')`,
      state: sql`case when ${host.state} = 'CONNECTED' then 'UNKNOWN' else ${host.state} end`,
      stateTime: sql`case when ${host.state} = 'CONNECTED' then now() else ${host.stateTime} end`,
    })
    .where(eq(host.id, hostId));
  await notifyHost(tx, hostId);
}

/** Notes that no agent is enrolled as the host any more. */
export async function noteUnenrolled(tx: Database, hostId: string): Promise<void> {
  await tx
    .update(host)
    .set({
      state: "PENDING",
      stateTime: sql`now()`,
      capabilities: [],
      updateTime: sql`now()`,
      version: sql`${host.version} + 1`,
    })
    .where(eq(host.id, hostId));
}

/** Whether the session is still the host's present one, of a host that is still there. */
export async function isPresentSession(db: Database, hostId: string, epoch: bigint): Promise<boolean> {
  const rows = await db
    .select({ id: host.id })
    .from(host)
    .where(and(eq(host.id, hostId), eq(host.sessionEpoch, epoch)));
  return rows.length > 0;
}

/** Tells whoever holds a session of the host to look again, once the transaction is committed. */
export async function notifyHost(tx: Database, hostId: string): Promise<void> {
  await tx.execute(sql`select pg_notify('coppice_host', ${hostId})`);
}
