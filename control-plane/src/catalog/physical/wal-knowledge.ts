// One thing: what the catalog knows of archived WAL, read and added to by reports, rebuilds and plans alike.
import { tellsOrder } from "@coppice/proto/kit/recovery/anchor-order";
import { addRuns, removeRuns } from "@coppice/proto/kit/recovery/extents";
import { and, asc, desc, eq, gt, gte, inArray, lt, lte, type SQL, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { walAnchor, walCommits, walExtent, walHistory } from "../schema/wal.ts";
import { listDeleted } from "./wal-deleted.ts";

/** One server of one cluster. */
export interface WalServer {
  readonly clusterId: string;
  readonly systemIdentifier: string;
}

export type WalExtentRow = typeof walExtent.$inferSelect;
export type WalAnchorRow = typeof walAnchor.$inferSelect;
export type WalCommitsRow = typeof walCommits.$inferSelect;
export type WalHistoryRow = typeof walHistory.$inferSelect;

/** Rows that go into one statement: it has a limit of parameters. */
const atOnce = 5000;

/** Runs that were told to be stored of a cluster's WAL, of one server or of all, in order; less what was deleted since. */
export async function listExtents(
  db: Database,
  of: { readonly clusterId: string; readonly systemIdentifier?: string },
): Promise<WalExtentRow[]> {
  const told = await listTold(db, of);
  const deleted = await listDeleted(db, of);
  if (deleted.length === 0) return told;
  return removeRuns(told.map(toRun), deleted.map(toRun)).map(({ repository: repositoryId, ...run }) => ({
    clusterId: of.clusterId,
    repositoryId,
    ...run,
  }));
}

const toRun = ({ repositoryId, systemIdentifier, timeline, startLsn, endLsn }: Omit<WalExtentRow, "clusterId">) => ({
  repository: repositoryId,
  systemIdentifier,
  timeline,
  startLsn,
  endLsn,
});

function listTold(
  db: Database,
  { clusterId, systemIdentifier }: { readonly clusterId: string; readonly systemIdentifier?: string },
): Promise<WalExtentRow[]> {
  return db
    .select()
    .from(walExtent)
    .where(
      and(
        eq(walExtent.clusterId, clusterId),
        systemIdentifier === undefined ? undefined : eq(walExtent.systemIdentifier, systemIdentifier),
      ),
    )
    .orderBy(
      asc(walExtent.systemIdentifier),
      asc(walExtent.repositoryId),
      asc(walExtent.timeline),
      asc(walExtent.startLsn),
    );
}

/** Puts the runs of a server in the place of those that are there; who calls holds the lock of the cluster's WAL. */
export async function replaceExtents(
  tx: Database,
  { clusterId, systemIdentifier }: WalServer,
  extents: readonly Pick<WalExtentRow, "repositoryId" | "timeline" | "startLsn" | "endLsn">[],
): Promise<void> {
  const of = and(eq(walExtent.clusterId, clusterId), eq(walExtent.systemIdentifier, systemIdentifier));
  await tx.delete(walExtent).where(of);
  for (const part of parts(extents)) {
    await tx.insert(walExtent).values(part.map((extent) => ({ ...extent, clusterId, systemIdentifier })));
  }
}

/** Adds what was told; what is known already stays. */
export async function addKnowledge(
  tx: Database,
  server: WalServer,
  told: {
    readonly anchors: readonly Pick<WalAnchorRow, "timeline" | "timeUs" | "lsn">[];
    readonly commits: readonly Pick<WalCommitsRow, "timeline" | "startLsn" | "endLsn" | "earliestUs" | "latestUs">[];
    readonly histories: readonly Pick<WalHistoryRow, "timeline" | "content">[];
  },
): Promise<void> {
  for (const part of parts(await inOrder(tx, server, told.anchors))) {
    await tx
      .insert(walAnchor)
      .values(part.map((anchor) => ({ ...server, ...anchor })))
      .onConflictDoNothing();
  }
  // A statement may change a row once only.
  const longest = new Map<string, (typeof told.commits)[number]>();
  for (const commits of told.commits) {
    const run = `${commits.timeline} ${commits.startLsn}`;
    if ((longest.get(run)?.endLsn ?? 0n) < commits.endLsn) longest.set(run, commits);
  }
  for (const part of parts([...longest.values()])) {
    await tx
      .insert(walCommits)
      .values(part.map((commits) => ({ ...server, ...commits })))
      // The same run again, longer: what is said of all of it holds for its beginning too.
      .onConflictDoUpdate({
        target: [walCommits.clusterId, walCommits.systemIdentifier, walCommits.timeline, walCommits.startLsn],
        set: {
          endLsn: sql`excluded.end_lsn`,
          earliestUs: sql`excluded.earliest_us`,
          latestUs: sql`excluded.latest_us`,
        },
        setWhere: sql`excluded.end_lsn > ${walCommits.endLsn}`,
      });
  }
  for (const part of parts(told.histories)) {
    await tx
      .insert(walHistory)
      .values(part.map((history) => ({ ...server, ...history })))
      .onConflictDoNothing();
  }
}

/** Adds runs of a server's WAL in one repository to those that are known; who calls holds the lock of the cluster's WAL. */
export async function addExtents(
  tx: Database,
  server: WalServer,
  repository: string,
  runs: readonly Pick<WalExtentRow, "timeline" | "startLsn" | "endLsn">[],
): Promise<void> {
  if (runs.length === 0) return;
  const { systemIdentifier } = server;
  const merged = addRuns(
    (await listExtents(tx, server)).map(toRun),
    runs.map((run) => ({ ...run, repository, systemIdentifier })),
  );
  await replaceExtents(
    tx,
    server,
    merged.map(({ repository: repositoryId, timeline, startLsn, endLsn }) => ({
      repositoryId,
      timeline,
      startLsn,
      endLsn,
    })),
  );
}

/**
 * Thins what is older than `before`: of each ten minutes the first anchor stays, and the last of all of a timeline; of
 * commits none. `since` is up to where that has been done already.
 */
export async function thinKnowledge(
  tx: Database,
  { clusterId, systemIdentifier }: WalServer,
  { since, before }: { readonly since: Date; readonly before: Date },
): Promise<void> {
  const [from, to] = [BigInt(since.getTime()) * 1000n, BigInt(before.getTime()) * 1000n];
  await tx.execute(sql`
    delete from ${walAnchor} a using (
      select timeline, time_us,
        row_number() over (partition by timeline, time_us / 600000000 order by time_us) as place
      from ${walAnchor}
      where cluster_id = ${clusterId} and system_identifier = ${systemIdentifier}
        and time_us >= (${from.toString()}::bigint / 600000000) * 600000000 and time_us < ${to.toString()}::bigint
    ) old
    where a.cluster_id = ${clusterId} and a.system_identifier = ${systemIdentifier}
      and a.timeline = old.timeline and a.time_us = old.time_us and old.place > 1
      and exists (
        select from ${walAnchor} later
        where later.cluster_id = a.cluster_id and later.system_identifier = a.system_identifier
          and later.timeline = a.timeline and later.time_us > a.time_us and later.lsn >= a.lsn
      )`);
  await tx
    .delete(walCommits)
    .where(
      and(
        eq(walCommits.clusterId, clusterId),
        eq(walCommits.systemIdentifier, systemIdentifier),
        lt(walCommits.reportTime, before),
      ),
    );
}

/** Anchors of a server in order of time. */
export function listAnchors(db: Database, { clusterId, systemIdentifier }: WalServer): Promise<WalAnchorRow[]> {
  return db
    .select()
    .from(walAnchor)
    .where(and(eq(walAnchor.clusterId, clusterId), eq(walAnchor.systemIdentifier, systemIdentifier)))
    .orderBy(asc(walAnchor.timeUs));
}

/** Times of commits of a server in order of WAL. */
export function listCommits(db: Database, { clusterId, systemIdentifier }: WalServer): Promise<WalCommitsRow[]> {
  return db
    .select()
    .from(walCommits)
    .where(and(eq(walCommits.clusterId, clusterId), eq(walCommits.systemIdentifier, systemIdentifier)))
    .orderBy(asc(walCommits.timeline), asc(walCommits.startLsn));
}

/** History files of a server. */
export function listHistories(db: Database, { clusterId, systemIdentifier }: WalServer): Promise<WalHistoryRow[]> {
  return db
    .select()
    .from(walHistory)
    .where(and(eq(walHistory.clusterId, clusterId), eq(walHistory.systemIdentifier, systemIdentifier)))
    .orderBy(asc(walHistory.timeline));
}

/** Time of the newest anchor of a timeline at or before a position, in microseconds since 1970. */
export async function anchorTimeBefore(
  db: Database,
  server: WalServer,
  { timeline, lsn }: { readonly timeline: number; readonly lsn: bigint },
): Promise<bigint | undefined> {
  const isBefore = and(eq(walAnchor.timeline, timeline), lte(walAnchor.lsn, lsn));
  // Not the latest of all: the server's clock may have been ahead once.
  return (await findAnchor(db, server, isBefore, desc(walAnchor.lsn), desc(walAnchor.timeUs)))?.timeUs;
}

/** Whether a time is known of a timeline. */
export async function isTimelineKnown(db: Database, server: WalServer, timeline: number): Promise<boolean> {
  return (await findAnchor(db, server, eq(walAnchor.timeline, timeline), asc(walAnchor.timeUs))) !== undefined;
}

/** The first anchor of a server from a time on; undefined when none is known. */
export async function firstAnchorFrom(db: Database, server: WalServer, time: Date): Promise<ToldAnchor | undefined> {
  return await findAnchor(db, server, isFrom(time), asc(walAnchor.timeUs));
}

/** Time of the earliest anchor of a timeline behind a position, from a time on, in microseconds since 1970. */
export async function anchorTimeBehind(
  db: Database,
  server: WalServer,
  { timeline, lsn, from }: { readonly timeline: number; readonly lsn: bigint; readonly from: Date },
): Promise<bigint | undefined> {
  const isBehind = and(eq(walAnchor.timeline, timeline), gt(walAnchor.lsn, lsn), isFrom(from));
  return (await findAnchor(db, server, isBehind, asc(walAnchor.timeUs)))?.timeUs;
}

const isFrom = (time: Date) => gte(walAnchor.timeUs, BigInt(time.getTime()) * 1000n);

/** The first anchor of a server, in an order, for which the condition holds. */
async function findAnchor(
  db: Database,
  { clusterId, systemIdentifier }: WalServer,
  condition: SQL | undefined,
  ...order: SQL[]
): Promise<WalAnchorRow | undefined> {
  const isOwn = and(eq(walAnchor.clusterId, clusterId), eq(walAnchor.systemIdentifier, systemIdentifier));
  const [row] = await db
    .select()
    .from(walAnchor)
    .where(and(isOwn, condition))
    .orderBy(...order)
    .limit(1);
  return row;
}

type ToldAnchor = Pick<WalAnchorRow, "timeline" | "timeUs" | "lsn">;

/** Those that do not contradict what is known, or was told before them: agents begin anew, and clocks are set back. */
async function inOrder(
  tx: Database,
  { clusterId, systemIdentifier }: WalServer,
  told: readonly ToldAnchor[],
): Promise<ToldAnchor[]> {
  const known: ToldAnchor[] = [];
  for (const part of parts([...new Set(told.map(({ lsn }) => lsn))])) {
    const present = await tx
      .select({ timeline: walAnchor.timeline, timeUs: walAnchor.timeUs, lsn: walAnchor.lsn })
      .from(walAnchor)
      .where(
        and(
          eq(walAnchor.clusterId, clusterId),
          eq(walAnchor.systemIdentifier, systemIdentifier),
          inArray(walAnchor.lsn, part),
        ),
      );
    known.push(...present);
  }
  // By position: hundreds of them are told at once.
  const byLsn = Map.groupBy(known, ({ lsn }) => lsn);
  return told.filter((anchor) => {
    const same = byLsn.get(anchor.lsn) ?? [];
    if (!tellsOrder(same, anchor)) return false;
    byLsn.set(anchor.lsn, [...same, anchor]);
    return true;
  });
}

function parts<T>(rows: readonly T[]): T[][] {
  const count = Math.ceil(rows.length / atOnce);
  return Array.from({ length: count }, (_, index) => rows.slice(index * atOnce, (index + 1) * atOnce));
}
