// Archiving of one cluster from its beginning to its end: long because it is where server, repository, slot, index and
// ledger meet; each of them is a file of its own.
import { createHash } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { WalArchive, WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { type Failure, fail, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { type Ancestor, parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { sleep } from "@coppice/proto/kit/sleep";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { historyName, partialName, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { Logger } from "pino";
import type { ByteBudget } from "../../budget.ts";
import { type ClientFiles, resolveEndpoint } from "../../postgres/endpoint.ts";
import {
  openReplication,
  type ReplicationConnection,
  type SystemIdentity,
} from "../../postgres/replication/open-replication.ts";
import { isShared, requireSharedMark } from "../../repository/shared-mark.ts";
import { storageAccess } from "../../repository/storage-access.ts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";
import { type AnchorShelf, openAnchorShelf } from "../anchors/anchor-shelf.ts";
import { type ArchiveIndex, openArchiveIndex } from "../store/archive-index.ts";
import { listExtents } from "../store/list-extents.ts";
import { checkSegmentHeader } from "../store/segment-header.ts";
import { storeWal } from "../store/store-wal.ts";
import { readableOf } from "../store/wal-codec.ts";
import { type ArchivedStart, chooseStart, type StreamStart } from "./choose-start.ts";
import { type Anchor, type Ledger, openLedger } from "./ledger.ts";
import { type ReceivedWal, receiveTimeline } from "./receive.ts";
import { parseSizeSetting } from "./size-setting.ts";
import { toSpoolFailure } from "./spool-failure.ts";
import { slotOf } from "./slot-name.ts";
import { watchServer } from "./watch-server.ts";

/** What archiving of one cluster's WAL is run with. */
export interface ArchiveOptions {
  readonly archive: WalArchive;
  /** The value of a secret that the archive refers to. */
  readonly secret: (id: string) => string | undefined;
  /** Folder of its own, for the index and for segments that are on their way. */
  readonly folder: string;
  readonly clientFiles: ClientFiles;
  readonly budget: ByteBudget;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Archiving that runs until its signal aborts. */
export interface RunningArchive {
  /** What is not told yet; undefined when nothing has changed. */
  report(): WalReport | undefined;
  acknowledge(number: bigint): void;
  repeat(): void;
  /** Has the server give nothing to it any more, once it has ended for good; at most for half a minute. */
  withdraw?(): Promise<void>;
  /** Settles when it has ended after an abort. */
  readonly ended: Promise<void>;
}

const backoff = { baseMs: 500, capMs: 30_000 };
const defaultMaxAgeMs = 60_000;
const defaultLevel = 3;
const untroubled = { streamTrouble: undefined, storeTrouble: undefined };

/**
 * Archives a cluster's WAL by the replication protocol, with a slot that keeps on the server what is not stored yet.
 * Trouble of the server or the repository is reported, and it tries again until the signal aborts.
 */
export function runArchive(options: ArchiveOptions): RunningArchive {
  const { archive, signal, log } = options;
  const ledger = openLedger({
    clusterId: archive.clusterId,
    repositoryId: archive.repository?.repositoryId ?? "",
    systemIdentifier: archive.systemIdentifier,
  });
  const endpoint = async () => {
    const password = options.secret(archive.connection?.passwordSecret ?? "");
    return await resolveEndpoint(archive.connection?.endpoint, password, options.clientFiles);
  };
  const slot = slotOf(archive);
  const anchors = openAnchorShelf(log);
  const turn: Turn = { ...options, ledger, anchors, slot, endpoint, isFallingBack: false, ...untroubled };
  const onAnchor = (anchor: Anchor) => {
    ledger.addAnchor(anchor);
    turn.anchors.offer(anchor);
  };
  const { systemIdentifier } = archive;
  const watching = watchServer({ endpoint, slot, ledger, onAnchor, log, systemIdentifier }, signal);
  return {
    report: () => ledger.report(),
    acknowledge: (number) => ledger.acknowledge(number),
    repeat: () => ledger.repeat(),
    ended: Promise.all([keepArchiving(turn), watching]).then(() => undefined),
  };
}

interface Turn extends ArchiveOptions {
  readonly ledger: Ledger;
  readonly anchors: AnchorShelf;
  readonly slot: string;
  readonly endpoint: () => ReturnType<typeof resolveEndpoint>;
  /** What follows the archive's end is gone from the server: go on with what its slot still has. */
  isFallingBack: boolean;
  streamTrouble: Failure | undefined;
  storeTrouble: Failure | undefined;
}

function tell(turn: Turn, trouble: Partial<Pick<Turn, "streamTrouble" | "storeTrouble">>): void {
  Object.assign(turn, trouble);
  turn.ledger.stand({ trouble: turn.storeTrouble ?? turn.streamTrouble });
}

async function keepArchiving(turn: Turn): Promise<void> {
  const { signal, ledger, log, archive, folder } = turn;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const startedMs = performance.now();
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await using index = await openArchiveIndex(join(folder, "index"));
      for (const extent of index.extents) ledger.addRun(extent);
      await archiveOnce(turn, index);
    } catch (error) {
      if (signal.aborted) return;
      const failure = toFailure(toSpoolFailure(error, folder));
      turn.isFallingBack = isFailure(error, "WAL_REMOVED");
      tell(turn, { streamTrouble: failure });
      const cause = failure.reason === "INTERNAL" ? { err: error } : {};
      log.warn(
        { cluster: archive.clusterName, reason: failure.reason, ...cause },
        `WAL is not archived: ${failure.message}`,
      );
    }
    if (performance.now() - startedMs > backoff.capMs) attempt = 0;
    await sleep(backoffMs(attempt, backoff), signal).catch(() => undefined);
  }
}

/** One connection's worth of archiving; ends only by failing. */
async function archiveOnce(turn: Turn, index: ArchiveIndex): Promise<never> {
  const { archive, signal, ledger, slot, log } = turn;
  const target = archive.repository ?? fail("INVALID_FIELD", "the archive has no repository");
  const location = target.location ?? fail("INVALID_FIELD", "the archive's repository has no location");
  const access = storageAccess(target, { ...turn, operationId: archive.clusterId });
  await using storage = await openStorage(location, access);
  if (isShared(target)) await requireSharedMark(storage, target, signal);
  let reach: bigint | undefined;
  await using _anchors = turn.anchors.keepIn({ use: (work) => work(storage), reach: () => reach }, archive, signal);
  await using replication = await openReplication(await turn.endpoint(), { signal });
  const identity = await replication.identify();
  if (identity.systemIdentifier !== archive.systemIdentifier)
    fail(
      "WAL_FOREIGN",
      `the server has system identifier ${identity.systemIdentifier}, and WAL of ${archive.systemIdentifier} is archived here`,
    );
  const segmentBytes = BigInt(parseSizeSetting(await replication.show("wal_segment_size")));
  ledger.stand({ timeline: identity.timeline, segmentBytes, serverLsn: identity.lsn });
  if (index.extents.length === 0) {
    await index.addFound(await listExtents(storage, { place: archive, segmentBytes, signal }));
    for (const extent of index.extents) ledger.addRun(extent);
  }
  await requireNotSetBack(replication, identity, index);
  const store = (wal: ReceivedWal) => storeUntilDone(wal, { turn, storage, index, segmentBytes });
  const former = await storeHistory(replication, identity.timeline, { turn, storage, index });
  const held = await ensureSlot(replication, turn);
  const { timeline: present } = identity;
  const known = turn.isFallingBack
    ? undefined
    : chooseStart(index.extents, { timeline: present, former, segmentBytes, heldLsn: held.lsn });
  let archived = known && archivedAt(index, known, segmentBytes);
  let start: StreamStart = known ?? { ...held, lsn: segmentStart(held.lsn, segmentBytes) };
  const spool = join(turn.folder, "spool");
  await rm(spool, { recursive: true, force: true });
  await mkdir(spool, { mode: 0o700 });
  const { settings } = archive;
  for (;;) {
    const { timeline, lsn } = start;
    log.info({ cluster: archive.clusterName, timeline, lsn: formatLsn(lsn) }, "WAL is received");
    ledger.stand({ timeline });
    if (!archived) reach = lsn;
    const next = await receiveTimeline(replication, {
      slot,
      timeline,
      startLsn: lsn,
      segmentBytes,
      folder: spool,
      maxAgeMs: settings?.maxAge ? durationMs(settings.maxAge) : defaultMaxAgeMs,
      archived,
      signal,
      store,
      onReceived: (receivedLsn) => ledger.stand({ receivedLsn }),
      onStored: (storedLsn) => {
        turn.isFallingBack = false;
        archived = undefined;
        reach = storedLsn;
        ledger.stand({ storedLsn });
        tell(turn, untroubled);
      },
      onKeepalive: ({ serverLsn, serverTime }) => {
        ledger.stand({ serverLsn, serverTime });
        // A gap stays declared until there is WAL behind it, and another server until it has proved to be none.
        if (!turn.isFallingBack && !archived && turn.streamTrouble) tell(turn, { streamTrouble: undefined });
      },
    });
    await storeHistory(replication, next.nextTimeline, { turn, storage, index });
    archived = undefined;
    start = { timeline: next.nextTimeline, lsn: segmentStart(next.nextLsn, segmentBytes) };
  }
}

/**
 * A server whose WAL ends before what is archived of it did not write that: it would write other WAL to the same
 * positions. A standby comes to it again, when it was started anew. Fails with WAL_FOREIGN.
 */
async function requireNotSetBack(
  replication: ReplicationConnection,
  { timeline, lsn }: SystemIdentity,
  index: ArchiveIndex,
): Promise<void> {
  const last = index.extents.findLast((extent) => extent.timeline === timeline);
  if (last === undefined || last.endLsn <= lsn || (await replication.show("in_hot_standby")) === "on") return;
  const [is, was] = [formatLsn(lsn), formatLsn(last.endLsn)];
  fail("WAL_FOREIGN", `the server's timeline ${timeline} ends at ${is}, and is archived up to ${was}`, {
    hint: "it is a copy of the server that was archived, or was set back: archive that server, or give this one a timeline of its own: stop it, make standby.signal in its data directory, start it, SELECT pg_promote()",
  });
}

/** What the last that is archived has to be when it comes once more; undefined where that is not known here. */
function archivedAt(index: ArchiveIndex, { timeline, lsn, archivedLsn }: ArchivedStart, segmentBytes: bigint) {
  if (archivedLsn <= lsn) return undefined;
  const isWhole = archivedLsn === lsn + segmentBytes;
  const name = isWhole ? segmentName(timeline, lsn, segmentBytes) : partialName(timeline, archivedLsn, segmentBytes);
  const sha256 = index.digestOf(name);
  return sha256 === undefined ? undefined : { endLsn: archivedLsn, sha256 };
}

/** Where the slot holds the server's WAL; one that is missing is made, one that was given up made anew. */
async function ensureSlot(replication: ReplicationConnection, { slot, log }: Turn): Promise<StreamStart> {
  let held = await replication.readSlot(slot);
  if (held && held.restartLsn === undefined) {
    log.warn({ slot }, "the slot was given up by the server and is made anew");
    await replication.dropSlot(slot);
    held = undefined;
  }
  held ??= await replication.createSlot(slot, { temporary: false, reserveWal: true });
  const { restartLsn, restartTimeline } = held;
  if (restartLsn === undefined) return fail("SLOT_INVALIDATED", `the slot ${slot} keeps no WAL`);
  return { lsn: restartLsn, timeline: restartTimeline ?? (await replication.identify()).timeline };
}

interface Stores {
  readonly turn: Turn;
  readonly storage: Storage;
  readonly index: ArchiveIndex;
}

/** Stores the history file of a timeline and gives what it says. */
async function storeHistory(
  replication: ReplicationConnection,
  timeline: number,
  { turn, storage, index }: Stores,
): Promise<readonly Ancestor[]> {
  if (timeline === 1) return [];
  const { content } = await replication.timelineHistory(timeline);
  const name = historyName(timeline);
  const sha256 = createHash("sha256").update(content).digest("hex");
  await storeWal(storage, {
    place: turn.archive,
    name,
    read: () => readableOf(content),
    sha256,
    encoding: encodingOf(turn),
    known: (known) => index.digestOf(known),
    signal: turn.signal,
  });
  // At the next connection it is there, and where it is encrypted nobody here can tell what it holds.
  if (index.digestOf(name) !== sha256) await index.add({ name, sha256, run: { timeline, startLsn: 0n, endLsn: 0n } });
  const text = content.toString("utf8");
  turn.ledger.addHistory(timeline, text);
  return parseTimelineHistory(timeline, text).ancestors;
}

function encodingOf({ archive: { settings, repository } }: Turn) {
  return { level: settings?.compressionLevel || defaultLevel, recipients: repository?.recipients ?? [] };
}

/** Stores what was received; whatever stands in the way is reported and tried again until the signal aborts. */
async function storeUntilDone(
  wal: ReceivedWal,
  { turn, storage, index, segmentBytes }: Stores & { readonly segmentBytes: bigint },
): Promise<void> {
  const { archive, signal, log } = turn;
  const { systemIdentifier } = archive;
  for (let attempt = 0; ; attempt++) {
    try {
      checkSegmentHeader(wal.header, { ...wal.run, systemIdentifier, segmentBytes });
      await storeWal(storage, {
        place: archive,
        name: wal.name,
        read: wal.read,
        sha256: wal.sha256,
        encoding: encodingOf(turn),
        known: (name) => index.digestOf(name),
        signal,
      });
      await index.add(wal);
      turn.ledger.addRun(wal.run);
      if (attempt > 0) tell(turn, { storeTrouble: undefined });
      return;
    } catch (error) {
      signal.throwIfAborted();
      const trouble = toFailure(toSpoolFailure(error, turn.folder));
      tell(turn, { storeTrouble: trouble });
      if (attempt === 0)
        log.warn(
          { cluster: archive.clusterName, reason: trouble.reason },
          `${wal.name} is not stored: ${trouble.message}`,
        );
      await sleep(backoffMs(attempt, backoff), signal);
    }
  }
}
