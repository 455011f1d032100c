// Archiving of one cluster from its beginning to its end: long because it is where server, repository, slot, index and
// ledger meet; each of them is a file of its own.
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { EndSegment, WalArchive, WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { Failure, fail, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { Logger } from "pino";
import type { ByteBudget } from "../../budget.ts";
import { type ClientFiles, resolveEndpoint } from "../../postgres/endpoint.ts";
import { openReplication } from "../../postgres/replication/open-replication.ts";
import type { Storage } from "../../storage/storage.ts";
import { digestPart } from "../content/part-digest.ts";
import { type AnchorShelf, openAnchorShelf } from "../anchors/anchor-shelf.ts";
import { type ArchiveIndex, openArchiveIndex } from "../store/archive-index.ts";
import { requireNotBehind } from "../set-back/require-not-behind.ts";
import { type Follow, openFollow } from "../set-back/follow.ts";
import { endRefusal, readRefusal, type Refusal, refusalFailure } from "../set-back/refusal.ts";
import { noteNewSetBack } from "../set-back/set-back-mark.ts";
import { isPartOfWhole } from "../store/check-whole.ts";
import { lastOf } from "../store/extent.ts";
import { findStored } from "../store/find-stored.ts";
import { type GrantCheck, guardStorage, openGrantCheck, requireGrantedTimeline } from "../store/grant.ts";
import { findArchived, listBeyond } from "../store/list-extents.ts";
import { openArchiveTarget } from "../store/open-target.ts";
import { checkSegmentHeader } from "../store/segment-header.ts";
import { storeWal } from "../store/store-wal.ts";
import { compressWal, walEncoding } from "../store/wal-codec.ts";
import { archivedEnd } from "./archived-end.ts";
import { chooseStart, type StreamStart } from "./choose-start.ts";
import { ensureSlot, renewSlot } from "./ensure-slot.ts";
import { type Anchor, type Ledger, openLedger } from "./ledger.ts";
import { type ReceivedWal, receiveTimeline } from "./receive.ts";
import { parseSizeSetting } from "./size-setting.ts";
import { toSpoolFailure } from "./spool-failure.ts";
import { slotOf } from "./slot-name.ts";
import { storeHistory } from "./store-history.ts";
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
  /** Has the next report come, though nothing has changed. */
  touch?(): void;
  /**
   * Everything before it is stored, or not to be had, and the server keeps the rest as long as its slot is not beyond it;
   * undefined while nothing is received.
   */
  heldFrom?(): bigint | undefined;
  /** Whether the server needs no slot: its archive_command hands over what is stored, alone. */
  pushes?(): boolean;
  /** Has the server end a segment that somebody waits for, where it is in that one. */
  endSegment?(asked: EndSegment): void;
  /** Settles when it has ended after an abort. */
  readonly ended: Promise<void>;
}

const backoff = { baseMs: 500, capMs: 30_000 };
const defaultMaxAgeMs = 60_000;
/** While it is not known whose they are: an hour's. */
const mostUnproven = 360;
const otherServer = ["WAL_FOREIGN", "WAL_CONFLICT"];
const unheld = { goneLsn: undefined, heldLsn: undefined };
const untroubled = { streamTrouble: undefined, storeTrouble: undefined };

/**
 * Archives a cluster's WAL by the replication protocol, with a slot that keeps on the server what is not stored yet.
 * Trouble of the server or the repository is reported, and it tries again until the signal aborts.
 */
export function runArchive(options: ArchiveOptions): RunningArchive {
  const { archive, signal, log } = options;
  const ledger = openLedger({
    clusterId: archive.clusterId,
    clusterName: archive.clusterName,
    repositoryId: archive.repository?.repositoryId ?? "",
    systemIdentifier: archive.systemIdentifier,
    settings: archive.settings,
  });
  const endpoint = async () => {
    const password = options.secret(archive.connection?.passwordSecret ?? "");
    return await resolveEndpoint(archive.connection?.endpoint, password, options.clientFiles);
  };
  const slot = slotOf(archive);
  const anchors = openAnchorShelf(log);
  const turn: Turn = {
    ...options,
    ledger,
    grant: openGrantCheck(archive),
    anchors,
    slot,
    endpoint,
    isSlotNew: false,
    isOwn: false,
    unproven: [],
    refused: undefined,
    ...unheld,
    ...untroubled,
  };
  const onAnchor = (anchor: Anchor) => {
    turn.unproven = [...turn.unproven, anchor].slice(-mostUnproven);
    if (turn.isOwn) tellAnchors(turn);
  };
  const { systemIdentifier } = archive;
  const watching = watchServer({ endpoint, slot, ledger, onAnchor, log, systemIdentifier }, signal);
  return {
    report: () => ledger.report(),
    acknowledge: (number) => ledger.acknowledge(number),
    repeat: () => ledger.repeat(),
    touch: () => ledger.touch(),
    heldFrom: () => turn.heldLsn,
    ended: Promise.all([keepArchiving(turn), watching]).then(() => undefined),
  };
}

interface Turn extends ArchiveOptions {
  readonly ledger: Ledger;
  readonly grant: GrantCheck;
  readonly anchors: AnchorShelf;
  readonly slot: string;
  readonly endpoint: () => ReturnType<typeof resolveEndpoint>;
  /** The slot was made here, and nothing is stored since. */
  isSlotNew: boolean;
  /** What begins there is gone from the server: go on behind it, in the end with what its slot still has. */
  goneLsn: bigint | undefined;
  /** See RunningArchive.heldFrom. */
  heldLsn: bigint | undefined;
  /** The server has proved to be the one that is archived: until then its time may be that of a copy. */
  isOwn: boolean;
  unproven: readonly Anchor[];
  /** It is not that one, until it has proved it: see Refusal. */
  refused: Refusal | undefined;
  streamTrouble: Failure | undefined;
  storeTrouble: Failure | undefined;
}

function tell(turn: Turn, trouble: Partial<Pick<Turn, "streamTrouble" | "storeTrouble">>): void {
  Object.assign(turn, trouble);
  turn.ledger.stand({ trouble: turn.storeTrouble ?? turn.streamTrouble });
}

function tellAnchors(turn: Turn): void {
  turn.isOwn = true;
  for (const anchor of turn.unproven) {
    turn.ledger.addAnchor(anchor);
    turn.anchors.offer(anchor);
  }
  turn.unproven = [];
}

async function keepArchiving(turn: Turn): Promise<void> {
  const { signal, ledger, log, archive, folder } = turn;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const startedMs = performance.now();
    const { goneLsn } = turn;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await using index = await openArchiveIndex(join(folder, "index"));
      for (const extent of index.extents) ledger.addRun(extent);
      await archiveOnce(turn, index);
    } catch (error) {
      if (signal.aborted) return;
      const failure = toFailure(toSpoolFailure(error, folder));
      turn.isOwn = false;
      if (otherServer.includes(failure.reason)) turn.unproven = [];
      await noteNewSetBack(folder, { before: turn.streamTrouble, now: failure, log });
      if (failure.reason !== "WAL_NOT_READY") tell(turn, { streamTrouble: failure });
      const cause = failure.reason === "INTERNAL" ? { err: error } : {};
      log.warn(
        { cluster: archive.clusterName, reason: failure.reason, ...cause },
        `WAL is not archived: ${failure.message}`,
      );
    }
    turn.heldLsn = undefined;
    // What is gone is known after a moment: then it goes on behind it, while the server keeps the rest.
    if (turn.goneLsn !== goneLsn || performance.now() - startedMs > backoff.capMs) attempt = 0;
    await sleep(backoffMs(attempt, backoff), signal).catch(() => undefined);
  }
}

/** One connection's worth of archiving; ends only by failing. */
async function archiveOnce(turn: Turn, index: ArchiveIndex): Promise<never> {
  const { archive, signal, ledger, slot, log } = turn;
  await using storage = await openArchiveTarget(archive, turn);
  await turn.grant.require(storage, signal);
  let reach: bigint | undefined;
  const kept = guardStorage({ use: (work) => work(storage) }, turn.grant, signal);
  await using _anchors = turn.anchors.keepIn({ ...kept, reach: () => reach }, archive, signal);
  await using replication = await openReplication(await turn.endpoint(), { signal });
  const identity = await replication.identify();
  if (identity.systemIdentifier !== archive.systemIdentifier)
    fail(
      "WAL_FOREIGN",
      `the server has system identifier ${identity.systemIdentifier}, and WAL of ${archive.systemIdentifier} is archived here`,
    );
  requireGrantedTimeline(archive, identity.timeline);
  const segmentBytes = BigInt(parseSizeSetting(await replication.show("wal_segment_size")));
  ledger.stand({ timeline: identity.timeline, segmentBytes, serverLsn: identity.lsn });
  const listed = { place: archive, segmentBytes, signal };
  const isFirst = index.isNew && archive.nothingArchived;
  const list = () => findArchived(storage, { ...listed, isFirst });
  if (await findStored(index, { folder: turn.folder, grant: archive.grant, list }))
    for (const extent of index.extents) ledger.addRun(extent);
  const last = lastOf(index.extents, identity.timeline);
  // With a machine that was set back the index was, too. What is there and not in it comes again, and is compared then.
  const beyond = last && (await listBeyond(storage, last, listed));
  // A standby comes to it again, when it was started anew.
  if ((await replication.show("in_hot_standby")) !== "on") requireNotBehind(identity, beyond?.at(-1) ?? last);
  turn.refused = await readRefusal(turn.folder, identity.timeline);
  if (turn.refused) tell(turn, { streamTrouble: refusalFailure(turn.refused) });
  const conflicts = new Set<bigint>();
  const former = await storeHistory(replication, identity.timeline, { turn, storage, index });
  let held: StreamStart | undefined = await ensureSlot(replication, turn);
  const { timeline: present } = identity;
  const { isSlotNew, goneLsn } = turn;
  const known = chooseStart(index.extents, {
    timeline: present,
    former,
    segmentBytes,
    heldLsn: held.lsn,
    isSlotNew,
    goneLsn,
  });
  if (known === undefined && goneLsn !== undefined && held.lsn <= goneLsn) held = await renewSlot(replication, turn);
  let archived = known && (await archivedEnd(known, { index, storage, place: archive, segmentBytes, signal }));
  let start: StreamStart = known ?? { ...held, lsn: segmentStart(held.lsn, segmentBytes) };
  let reachedLsn = start.lsn;
  // Who has the slot that ends right there has not lost it since.
  const isHeld = !known || known.archivedLsn === held.lsn;
  const follow = openFollow({
    ...listed,
    folder: turn.folder,
    index,
    beyond: beyond ?? [],
    storage: { use: (work) => work(storage) },
    hasArchived: async (_, { endLsn }) => isHeld || endLsn > start.lsn,
  });
  follow.grewOutOf(present, former);
  const store = (wal: ReceivedWal) => storeUntilDone(wal, { turn, storage, index, segmentBytes, conflicts, follow });
  const spool = join(turn.folder, "spool");
  await rm(spool, { recursive: true, force: true });
  await mkdir(spool, { mode: 0o700 });
  const { settings } = archive;
  for (;;) {
    const { timeline, lsn } = start;
    log.info({ cluster: archive.clusterName, timeline, lsn: formatLsn(lsn) }, "WAL is received");
    ledger.stand({ timeline });
    if (!archived && isHeld) {
      reach = lsn;
      tellAnchors(turn);
    }
    const next = await receiveTimeline(replication, {
      slot,
      timeline,
      startLsn: lsn,
      heldLsn: held?.lsn,
      segmentBytes,
      folder: spool,
      maxAgeMs: settings?.maxAge ? durationMs(settings.maxAge) : defaultMaxAgeMs,
      archived,
      signal,
      store,
      onReceived: (receivedLsn) => ledger.stand({ receivedLsn }),
      onHeld: () => (turn.heldLsn = lsn),
      onStored: (storedLsn) => {
        Object.assign(turn, { goneLsn: undefined, heldLsn: storedLsn, isSlotNew: false });
        if (turn.refused?.timeline === timeline && storedLsn >= turn.refused.lsn) {
          void endRefusal(turn.folder, { timeline, lsn: storedLsn }).catch(() => undefined);
          turn.refused = undefined;
        }
        archived = undefined;
        reach = storedLsn;
        reachedLsn = storedLsn;
        tellAnchors(turn);
        ledger.stand({ storedLsn });
        if (!turn.refused) tell(turn, untroubled);
      },
      onKeepalive: ({ serverLsn, serverTime }) => {
        ledger.stand({ serverLsn, serverTime });
        // A gap stays declared until there is WAL behind it, and another server until it has proved to be none.
        if (turn.goneLsn === undefined && !archived && !turn.refused && turn.streamTrouble)
          tell(turn, { streamTrouble: undefined });
      },
    }).catch(async (error: unknown) => {
      // One that kept nothing for too long is of no use: the next one begins where the archive ends.
      if (isFailure(error, "SLOT_INVALIDATED")) await replication.dropSlot(slot);
      if (isFailure(error, "WAL_REMOVED")) {
        turn.goneLsn = reachedLsn;
        // It would only have been compared: that is no gap.
        if (known && reachedLsn < segmentStart(known.archivedLsn, segmentBytes))
          throw new Failure("WAL_NOT_READY", error.message, { cause: error });
      }
      throw error;
    });
    follow.grewOutOf(next.nextTimeline, await storeHistory(replication, next.nextTimeline, { turn, storage, index }));
    // What is stored is so up to where the next one begins, or not so far.
    const storedLsn = reachedLsn < next.nextLsn ? reachedLsn : next.nextLsn;
    ledger.stand({ timeline: next.nextTimeline, receivedLsn: next.nextLsn, storedLsn });
    archived = undefined;
    held = undefined;
    start = { timeline: next.nextTimeline, lsn: segmentStart(next.nextLsn, segmentBytes) };
  }
}

interface Stores {
  readonly turn: Turn;
  readonly storage: Storage;
  readonly index: ArchiveIndex;
}

/**
 * Stores what was received; whatever stands in the way is reported and tried again until the signal aborts. Behind a
 * segment of which somebody has stored other bytes nothing is stored: it goes on from what is not there.
 */
async function storeUntilDone(
  wal: ReceivedWal,
  {
    turn,
    storage,
    index,
    segmentBytes,
    conflicts,
    follow,
  }: Stores & { readonly segmentBytes: bigint; readonly conflicts: Set<bigint>; readonly follow: Follow },
): Promise<void> {
  const { archive, signal, log } = turn;
  const { systemIdentifier } = archive;
  const { level, recipients } = walEncoding(archive);
  const { startLsn } = wal.run;
  for (let attempt = 0; ; attempt++) {
    while ([...conflicts].some((lsn) => lsn < startLsn)) await sleep(backoff.baseMs, signal);
    try {
      checkSegmentHeader(wal.header, { ...wal.run, systemIdentifier, segmentBytes });
      await turn.grant.require(storage, signal);
      const isPart = wal.run.endLsn < startLsn + segmentBytes;
      const part = { ...wal, place: archive, segmentBytes, index, signal };
      if (isPart && (await isPartOfWhole(storage, part))) {
        await index.addFound([wal.run]);
        return turn.ledger.addRun(wal.run);
      }
      const given = {
        place: archive,
        name: wal.name,
        plainBytes: Number(segmentBytes),
        compressed: () => compressWal(wal.read(), level),
        sha256: async () => wal.sha256,
        links: isPart ? undefined : wal.links,
        recipients,
        known: (name: string) => index.digestOf(name),
        signal,
      };
      const partSha256 = (bytes: number) => digestPart(wal.read(), { bytes, sizeBytes: Number(segmentBytes) });
      await follow.storing({ ...wal, partSha256 }, () => storeWal(storage, given));
      await index.add({ ...wal, links: isPart ? undefined : wal.links });
      conflicts.delete(startLsn);
      turn.ledger.addRun(wal.run);
      for (const commits of wal.commits) turn.ledger.addCommits(commits);
      if (attempt > 0) tell(turn, { storeTrouble: undefined });
      return;
    } catch (error) {
      signal.throwIfAborted();
      const trouble = toFailure(toSpoolFailure(error, turn.folder));
      if (trouble.reason === "WAL_CONFLICT") conflicts.add(startLsn);
      await noteNewSetBack(turn.folder, { before: turn.storeTrouble, now: trouble, log });
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
