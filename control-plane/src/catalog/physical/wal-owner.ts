import type { JsonValue } from "@bufbuild/protobuf";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { eq, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { type FormerOwner, walArchive } from "../schema/wal.ts";
import { changeDesired } from "./desired.ts";
import { acknowledgeEnd, askFor, declareDead, grantTo, type Ownership } from "./ownership.ts";
import { findWalArchive, type WalArchiveRow } from "./wal-archive.ts";
import { listExtents } from "./wal-knowledge.ts";

/** What is to be archived of a cluster, and by whom. */
export type WantedWalArchive = Pick<WalArchiveRow, "clusterId" | "hostId" | "repositoryId" | "systemIdentifier"> & {
  readonly settings: JsonValue;
};

/** What was told of another place or server counts for nothing. */
const nothingTold = {
  reportTime: null,
  timeline: null,
  segmentBytes: null,
  receivedLsn: null,
  storedLsn: null,
  serverLsn: null,
  serverTime: null,
  slotStatus: "",
  slot: null,
  writtenRate: null,
  storedRate: null,
  trouble: null,
  archiver: null,
} as const;

const ofNobody = (now: Date) => ({ grantTime: now, former: null, deadOwners: [] });
const held = { nextHostId: null, nextRepositoryId: null, nextSettings: null, nextEndNumber: null, nextTime: null };

/** Who may write WAL, as it is stored. */
export function ownershipOf({ hostId, grantNumber, nextHostId, nextEndNumber, deadOwners }: WalArchiveRow): Ownership {
  return {
    hostId,
    number: grantNumber,
    next: nextHostId === null || nextEndNumber === null ? undefined : { hostId: nextHostId, endNumber: nextEndNumber },
    dead: deadOwners.map((one) => ({ hostId: one.hostId, endNumber: BigInt(one.endNumber) })),
  };
}

/**
 * Sets what is to be archived of a cluster, and tells the hosts. Where the agent of another host owns the WAL of that
 * server, all of it is only noted until that one has acknowledged that it has ended.
 */
export async function putWalArchive(tx: Database, wanted: WantedWalArchive, now: Date): Promise<void> {
  const { clusterId, hostId, repositoryId, systemIdentifier, settings } = wanted;
  const present = await findWalArchive(tx, clusterId);
  const isSameServer = present?.systemIdentifier === systemIdentifier;
  const nowMs = now.getTime();
  const before = present && isSameServer ? ownershipOf(present) : undefined;
  const after = before ? askFor(before, hostId, nowMs) : grantTo(hostId, nowMs);
  if (present && after.next) {
    const next = { nextHostId: hostId, nextRepositoryId: repositoryId, nextSettings: settings };
    const nextTime = present.nextTime ?? now;
    await change(tx, clusterId, { ...next, nextEndNumber: after.next.endNumber, nextTime });
    return await tell(tx, [present.hostId]);
  }
  const place = { hostId, repositoryId, systemIdentifier, settings };
  const isSame = isSameServer && present.repositoryId === repositoryId;
  // Who asks once more does not say that a server which was left behind is the right one after all.
  const grantTimeline = isSame ? present.grantTimeline : await newestTimeline(tx, place, clusterId);
  const grant = { grantNumber: after.number, grantTimeline, ...(isSameServer ? {} : ofNobody(now)) };
  // What the server says of its archiving is an answer to what was asked for last.
  const set = { ...place, ...grant, ...held, ...(isSame ? { archiver: null } : nothingTold) };
  await tx
    .insert(walArchive)
    .values({ clusterId, ...set })
    .onConflictDoUpdate({
      target: walArchive.clusterId,
      set: { ...set, version: sql`${walArchive.version} + 1` },
    });
  await tell(tx, [hostId, ...(present ? [present.hostId] : [])]);
}

/** What an agent says of the end of its archiving. */
export interface AcknowledgedEnd {
  readonly clusterId: string;
  readonly hostId: string;
  readonly endNumber: bigint;
  /** How far it has stored; undefined where it does not know. */
  readonly stored: { readonly timeline: number; readonly lsn: bigint } | undefined;
}

/**
 * Takes in that an agent writes no more, and lets the next one begin: gives what is archived from now on where that is so.
 * The cluster is locked.
 */
export async function acknowledgeWalEnd(
  tx: Database,
  { clusterId, hostId, endNumber, stored }: AcknowledgedEnd,
  now: Date,
): Promise<WalArchiveRow | undefined> {
  const row = await findWalArchive(tx, clusterId);
  const after = row && acknowledgeEnd(ownershipOf(row), { hostId, endNumber }, now.getTime());
  if (row === undefined || after === undefined) return undefined;
  if (after.hostId === row.hostId) {
    await change(tx, clusterId, { deadOwners: deadOwnersOf(after) });
    await tell(tx, [hostId]);
    return undefined;
  }
  const lsn = stored ? formatLsn(stored.lsn) : null;
  return await move(tx, row, after, { hostId, timeline: stored?.timeline ?? null, lsn, isDead: false }, now);
}

/** Waits no longer for the owner's acknowledgement; undefined where nobody waits for that host. The cluster is locked. */
export async function declareWalOwnerDead(
  tx: Database,
  { clusterId, hostId }: { readonly clusterId: string; readonly hostId: string },
  now: Date,
): Promise<WalArchiveRow | undefined> {
  const row = await findWalArchive(tx, clusterId);
  const after = row && declareDead(ownershipOf(row), hostId, now.getTime());
  if (row === undefined || after === undefined) return undefined;
  const { timeline, storedLsn } = row;
  const lsn = storedLsn === null ? null : formatLsn(storedLsn);
  return await move(tx, row, after, { hostId, timeline, lsn, isDead: true }, now);
}

async function move(
  tx: Database,
  row: WalArchiveRow,
  after: Ownership,
  former: FormerOwner,
  now: Date,
): Promise<WalArchiveRow | undefined> {
  const { clusterId, systemIdentifier, nextRepositoryId, nextSettings } = row;
  if (nextRepositoryId === null || nextSettings === null) throw new Error("a WAL archive moves to nowhere");
  const grantTimeline =
    nextRepositoryId === row.repositoryId
      ? Math.max(row.grantTimeline, row.timeline ?? 0, former.timeline ?? 0)
      : await newestTimeline(tx, { repositoryId: nextRepositoryId, systemIdentifier }, clusterId);
  await change(tx, clusterId, {
    hostId: after.hostId,
    repositoryId: nextRepositoryId,
    settings: nextSettings,
    grantNumber: after.number,
    grantTime: now,
    grantTimeline,
    former,
    deadOwners: deadOwnersOf(after),
    ...held,
    ...nothingTold,
  });
  await tell(tx, [row.hostId, after.hostId]);
  return await findWalArchive(tx, clusterId);
}

/**
 * The newest timeline of a server's WAL in a repository, 0 where it has none: where WAL goes to another repository, a server
 * that was left behind may go on in one of its own, and in none where the one after it was archived.
 */
async function newestTimeline(
  tx: Database,
  { repositoryId, systemIdentifier }: Pick<WalArchiveRow, "repositoryId" | "systemIdentifier">,
  clusterId: string,
): Promise<number> {
  const extents = await listExtents(tx, { clusterId, systemIdentifier });
  return Math.max(0, ...extents.filter((one) => one.repositoryId === repositoryId).map(({ timeline }) => timeline));
}

const deadOwnersOf = ({ dead }: Ownership) =>
  dead.map(({ hostId, endNumber }) => ({ hostId, endNumber: endNumber.toString() }));

async function change(tx: Database, clusterId: string, set: Partial<typeof walArchive.$inferInsert>): Promise<void> {
  await tx
    .update(walArchive)
    .set({ ...set, version: sql`${walArchive.version} + 1` })
    .where(eq(walArchive.clusterId, clusterId));
}

/** In one order everywhere, so that nobody waits for each other. */
async function tell(tx: Database, hostIds: readonly string[]): Promise<void> {
  for (const hostId of [...new Set(hostIds)].toSorted()) await changeDesired(tx, hostId);
}
