import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type WalReport, WalReportSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import type { WalSettings, WalSlotSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { Failure } from "@coppice/proto/kit/failure";
import { tellsOrder } from "@coppice/proto/kit/recovery/anchor-order";
import { timestampOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { CommitRun } from "../content/commit-times.ts";
import { addExtent, type WalExtent } from "../store/extent.ts";
import { openRate } from "./rate.ts";

/** A time of the server's clock and the end of its WAL then. */
export interface Anchor {
  readonly timeline: number;
  /** Microseconds since 1970. */
  readonly timeUs: bigint;
  readonly lsn: bigint;
}

/** Where things stand. */
export interface Standing {
  readonly timeline: number;
  readonly segmentBytes: bigint;
  readonly receivedLsn: bigint;
  readonly storedLsn: bigint;
  readonly serverLsn: bigint;
  readonly serverTime: Date;
  readonly slotStatus: string;
  readonly slot: MessageInitShape<typeof WalSlotSchema>;
  readonly trouble: Failure | undefined;
}

/** What an archive has to tell the control plane, kept until it is acknowledged. */
export interface Ledger {
  stand(standing: Partial<Standing>): void;
  addRun(run: WalExtent): void;
  addAnchor(anchor: Anchor): void;
  addHistory(timeline: number, content: string): void;
  /** A run with the beginning of an earlier one is the same, as it has become. */
  addCommits(run: CommitRun): void;
  /** Everything that is not acknowledged; undefined when nothing has changed since the last one. */
  report(): WalReport | undefined;
  /** Forgets what reports up to the number held. */
  acknowledge(number: bigint): void;
  /** Has the next report come, though nothing has changed here. */
  touch(): void;
  /**
   * A new session has to be told once more, also of what was acknowledged: its catalog may be one that was restored from
   * its own backup. All runs and histories come again, and anchors of the last day, one a minute.
   */
  repeat(): void;
}

type Tagged<T> = T & { number?: bigint };

/** Ten seconds apart that is a day; with nobody to tell, older ones get sparse. */
const mostAnchors = 8640;
const anchorsPerReport = 1000;
/** Of those that were acknowledged. */
const pastEveryUs = 60_000_000n;
const mostPast = 1440;
/** One a segment; with nobody to tell, the oldest are forgotten. */
const mostCommits = 10_000;
const commitsPerReport = 1000;

interface History {
  readonly timeline: number;
  readonly content: string;
}

/** An empty ledger of one cluster's archive. */
export function openLedger({
  settings,
  ...identity
}: {
  readonly clusterId: string;
  readonly clusterName?: string;
  readonly repositoryId: string;
  readonly systemIdentifier: string;
  readonly settings?: WalSettings | undefined;
}): Ledger {
  let standing: Partial<Standing> = {};
  let runs: Tagged<WalExtent>[] = [];
  let allRuns: WalExtent[] = [];
  let anchors: Tagged<Anchor>[] = [];
  let pastAnchors: Anchor[] = [];
  let lastAnchor: Anchor | undefined;
  let histories: Tagged<History>[] = [];
  const allHistories = new Map<number, string>();
  let commits: Tagged<CommitRun>[] = [];
  let number = 0n;
  let isChanged = true;
  const written = openRate();
  const kept = openRate();
  const tag = <T extends object>(items: readonly Tagged<T>[]) => {
    for (const item of items) item.number ??= number;
    return items;
  };
  function keepPast({ timeline, timeUs, lsn: at }: Anchor): void {
    const last = pastAnchors.at(-1);
    const isSoon = last?.timeline === timeline && timeUs >= last.timeUs && timeUs - last.timeUs < pastEveryUs;
    if (!isSoon) pastAnchors = [...pastAnchors, { timeline, timeUs, lsn: at }].slice(-mostPast);
  }
  const lsn = (value: bigint | undefined) => (value === undefined ? "" : formatLsn(value));

  return {
    stand(changes) {
      const { timeline = standing.timeline } = changes;
      // How far another timeline is stored says nothing of this one, whose positions may be lower.
      if (timeline !== standing.timeline) standing = omitPositions(standing);
      standing = { ...standing, ...changes };
      if (changes.serverLsn !== undefined) written.note(changes.serverLsn, performance.now());
      if (changes.storedLsn !== undefined) kept.note(changes.storedLsn, performance.now());
      isChanged = true;
    },
    addRun(run) {
      // Several are stored at once, and one may overtake another.
      const open = runs.filter((one) => one.number === undefined);
      runs = [...runs.filter((one) => one.number !== undefined), ...addExtent(open, run)];
      allRuns = addExtent(allRuns, run);
      isChanged = true;
    },
    addAnchor(anchor) {
      if (lastAnchor && !tellsOrder([lastAnchor], anchor)) return;
      lastAnchor = anchor;
      anchors.push({ ...anchor });
      if (anchors.length > mostAnchors)
        anchors = anchors.filter((_, index) => index % 2 === 0 || index > mostAnchors / 2);
      isChanged = true;
    },
    addHistory(timeline, content) {
      if (!histories.some((one) => one.timeline === timeline)) histories.push({ timeline, content });
      allHistories.set(timeline, content);
      isChanged = true;
    },
    addCommits(run) {
      const isSame = (one: Tagged<CommitRun>) =>
        one.number === undefined && one.timeline === run.timeline && one.startLsn === run.startLsn;
      commits = [...commits.filter((one) => !isSame(one)), { ...run }].slice(-mostCommits);
      isChanged = true;
    },
    report() {
      if (!isChanged) return undefined;
      // An archive that was changed has another ledger: what is acknowledged late to the one before is nothing to it.
      const now = BigInt(Math.round(performance.now() * 1000));
      number = now > number ? now : number + 1n;
      const told = anchors.slice(0, anchorsPerReport);
      const toldCommits = commits.slice(0, commitsPerReport);
      isChanged = told.length < anchors.length || toldCommits.length < commits.length;
      const { serverTime, trouble, slot } = standing;
      const [writtenRate, storedRate] = [written, kept].map((rate) => rate.perSecond(performance.now()));
      const init: MessageInitShape<typeof WalReportSchema> = {
        ...identity,
        ...(settings && { settings }),
        number,
        timeline: standing.timeline ?? 0,
        segmentBytes: standing.segmentBytes ?? 0n,
        receivedLsn: lsn(standing.receivedLsn),
        storedLsn: lsn(standing.storedLsn),
        serverLsn: lsn(standing.serverLsn),
        slotStatus: standing.slotStatus ?? "",
        stored: tag(runs).map((run) => ({
          timeline: run.timeline,
          startLsn: formatLsn(run.startLsn),
          endLsn: formatLsn(run.endLsn),
        })),
        anchors: tag(told).map((anchor) => ({
          timeline: anchor.timeline,
          time: { seconds: anchor.timeUs / 1_000_000n, nanos: Number(anchor.timeUs % 1_000_000n) * 1000 },
          lsn: formatLsn(anchor.lsn),
        })),
        histories: tag(histories).map(({ timeline, content }) => ({ timeline, content })),
        commits: tag(toldCommits).map(({ timeline, startLsn, endLsn, times }) => ({
          timeline,
          startLsn: formatLsn(startLsn),
          endLsn: formatLsn(endLsn),
          ...(times && { earliestTime: timestampOf(times.earliestUs), latestTime: timestampOf(times.latestUs) }),
        })),
      };
      if (slot) init.slot = slot;
      if (writtenRate !== undefined) init.writtenBytesPerSecond = writtenRate;
      if (storedRate !== undefined) init.storedBytesPerSecond = storedRate;
      if (serverTime) {
        const ms = serverTime.getTime();
        init.serverTime = { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
      }
      if (trouble)
        init.trouble = {
          reason: trouble.reason,
          message: trouble.message,
          hint: trouble.hint,
          metadata: { ...trouble.metadata },
        };
      return create(WalReportSchema, init);
    },
    acknowledge(acknowledged) {
      const isOpen = (item: { number?: bigint }) => item.number === undefined || item.number > acknowledged;
      runs = runs.filter(isOpen);
      for (const anchor of anchors) if (!isOpen(anchor)) keepPast(anchor);
      anchors = anchors.filter(isOpen);
      histories = histories.filter(isOpen);
      commits = commits.filter(isOpen);
    },
    touch() {
      isChanged = true;
    },
    repeat() {
      runs = allRuns.map((run) => ({ ...run }));
      histories = [...allHistories].map(([timeline, content]) => ({ timeline, content }));
      anchors = [...pastAnchors.map((anchor) => ({ ...anchor })), ...anchors];
      pastAnchors = [];
      isChanged = true;
    },
  };
}

function omitPositions({ receivedLsn: _received, storedLsn: _stored, ...rest }: Partial<Standing>): Partial<Standing> {
  return rest;
}
