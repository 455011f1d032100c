import { WalModeSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { RecoveryWindow, WalArchive, WalExtent } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatDuration } from "@coppice/proto/kit/duration";
import { formatSize } from "@coppice/proto/kit/size";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { describeWindows } from "../../operation/wal/still-reachable.ts";
import { formatDetails } from "../../output/details.ts";
import { formatElapsed, formatRelative } from "../../output/elapsed.ts";
import { enumLabel } from "../../output/enum-label.ts";
import { printable } from "../../output/printable.ts";
import { formatTable } from "../../output/table.ts";
import type { Terminal } from "../../output/terminal.ts";
import { instantOf, timeOf } from "../../output/time.ts";

/** What is known of a cluster's WAL archive. */
export interface ArchiveView {
  readonly archive: WalArchive;
  readonly windows: readonly RecoveryWindow[];
}

/** How far WAL is archived, what is missing, and what recovery can reach. */
export function formatArchive(
  { archive, windows }: ArchiveView,
  { terminal: { paint }, now }: { readonly terminal: Pick<Terminal, "paint">; readonly now: () => Date },
): string {
  const { clusterName, repositoryName, hostName, settings, trouble } = archive;
  const title = [
    ["cluster", clusterName],
    ["archived", repositoryName ? describeMode(archive) : settings ? "by its agent, unasked" : "no"],
  ] as const;
  if (repositoryName === "" && archive.extents.length === 0) {
    return `${formatDetails(title)}  ${paint("dim", "next:")} coppice wal setup ${clusterName}\n`;
  }
  const time = now();
  const stored = timeOf(archive.storedTime);
  const maxAge = settings?.maxAge;
  const details = formatDetails([
    ...title,
    ["by", hostName && `agent of ${hostName}`],
    ...describeOwnership(archive, time),
    ["system", archive.systemIdentifier && `identifier ${archive.systemIdentifier}, timeline ${archive.timeline}`],
    ...describeArchiver(archive, time),
    ["slot", slotOf(archive)],
    ["max age", maxAge && formatDuration(Number(maxAge.seconds) * 1000 + Math.round(maxAge.nanos / 1e6))],
    ["server", archive.serverLsn],
    ["received", archive.receivedLsn],
    ["stored", archive.storedLsn],
    ["rate", describeRate(archive)],
    ["behind", describeLag(archive, stored, time)],
    ["reported", archive.reportTime ? formatRelative(timeOf(archive.reportTime), time) : "never"],
  ]);
  const mark = trouble
    ? `${paint("red", "✗")} ${printable(trouble.message)}\n${trouble.hint ? `  ${paint("dim", "next:")} ${printable(trouble.hint)}\n` : ""}`
    : "";
  return [details + mark, formatExtents(archive), formatWindows(windows)].filter(Boolean).join("\n");
}

/** Who alone may write: since when, after whom, and to whom that moves. */
function describeOwnership(
  { clusterName, hostName, ownership }: WalArchive,
  now: Date,
): [string, string | undefined][] {
  if (ownership === undefined) return [];
  const { sinceTime, nextHostName, nextTime, formerHostName, formerTimeline, formerLsn, formerDead } = ownership;
  const since = sinceTime ? ` for ${formatElapsed(elapsedSince(sinceTime, now))}` : "";
  const at = formerLsn ? `, stopped at ${formerLsn} of timeline ${formerTimeline}` : "";
  const after = formerHostName ? ` after ${formerHostName}${formerDead ? ", declared dead" : at}` : "";
  const moving = nextHostName
    ? `moving from ${hostName} to ${nextHostName}, waiting for ${formatElapsed(elapsedSince(nextTime, now))} for ${hostName} to say that it has stopped`
    : undefined;
  return [
    ["owner", moving ?? `${hostName}, held${since}${after}`],
    ["if dead", moving && `coppice wal setup ${clusterName} --owner-dead ${hostName}`],
    [
      "dead",
      ownership.deadHostNames.length > 0 ? `${ownership.deadHostNames.join(", ")}, not heard of since` : undefined,
    ],
  ];
}

function elapsedSince(time: WalArchive["reportTime"], now: Date): number {
  const since = timeOf(time);
  return since === undefined ? 0 : Math.max(0, now.getTime() - since.getTime());
}

function slotOf({ settings, slot, slotStatus, archiver }: WalArchive): string | undefined {
  if (archiver !== undefined && !archiver.isHandingOver) return undefined;
  if (slot === undefined) return settings?.slot && [settings.slot, slotStatus].filter(Boolean).join(", ");
  const { name, exists, active, restartLsn, walStatus, safeWalBytes, keptBytes } = slot;
  if (!exists) return `${name}, not there`;
  const kept = keptBytes === undefined ? "" : ` (${formatSize(keptBytes)})`;
  return [
    name,
    active ? "active" : "not active",
    walStatus,
    restartLsn && `keeps WAL from ${restartLsn}${kept}`,
    safeWalBytes === undefined ? "" : `given up after ${formatSize(safeWalBytes < 0n ? 0n : safeWalBytes)} more`,
  ]
    .filter(Boolean)
    .join(", ");
}

/** What the server writes and the repository takes in, in a second. */
function describeRate({
  writtenBytesPerSecond: written,
  storedBytesPerSecond: stored,
}: WalArchive): string | undefined {
  const parts = [
    written === undefined ? "" : `${formatSize(written)}/s written`,
    stored === undefined ? "" : `${formatSize(stored)}/s stored`,
  ];
  return parts.filter(Boolean).join(", ") || undefined;
}

/** In mode push: what the server hands out, what waits, and what was refused. */
function describeArchiver({ archiver }: WalArchive, now: Date): [string, string | undefined][] {
  if (archiver === undefined) return [];
  const { mode, isCommandSet, isHandingOver, waitingSegments, failedCount, lastFailed, refused, restartStatements } =
    archiver;
  const ago = (time: typeof archiver.lastArchivedTime) => (time ? `, ${formatRelative(timeOf(time), now)}` : "");
  const command = isCommandSet ? "is handed to the agent" : "is not handed to the agent";
  const handing = isHandingOver ? "; received by the slot until that has taken over" : "";
  return [
    ["archiver", `archive_mode ${mode}, WAL ${command}${handing}`],
    ["restart", restartStatements.length > 0 ? `needed after: ${restartStatements.join(" ")}` : undefined],
    ["waiting", waitingSegments === undefined ? undefined : `${waitingSegments} files`],
    ["last", archiver.lastArchived && `${archiver.lastArchived}${ago(archiver.lastArchivedTime)}`],
    [
      "failed",
      failedCount > 0n ? `${failedCount} times, last ${lastFailed}${ago(archiver.lastFailedTime)}` : undefined,
    ],
    ["refused", refused && `${refused.message}${ago(archiver.refusedTime)}`],
  ];
}

function describeMode({ settings, repositoryName }: WalArchive): string {
  const mode = settings?.mode ? enumLabel(WalModeSchema, settings.mode) : "stream";
  return `${mode}, into ${repositoryName}`;
}

/** By so much the server's clock and this one may differ unsaid. */
const mostSkewMs = 60_000;

function describeLag(archive: WalArchive, stored: Date | undefined, now: Date): string {
  const bytes = archive.lagBytes === undefined ? [] : [formatSize(archive.lagBytes)];
  if (stored === undefined) return bytes.join("; ");
  const ageMs = now.getTime() - stored.getTime();
  const until =
    ageMs < -mostSkewMs
      ? `${instantOf(archive.storedTime)}, by a clock of the server that was ahead,`
      : `${formatElapsed(Math.max(0, ageMs))} ago`;
  const but = hasGap(archive) ? ", but for what is missing below" : "";
  return [...bytes, `all that was committed until ${until} is stored${but}`].join("; ");
}

/** Something is missing of what is archived now. */
function hasGap({ gaps, repository, systemIdentifier }: WalArchive): boolean {
  return gaps.some((gap) => gap.repository === repository && gap.systemIdentifier === systemIdentifier);
}

/** What is stored, a run a line, and what is missing between, in order. */
function formatExtents({ extents, gaps }: WalArchive): string {
  if (extents.length === 0) return "";
  const stored = extents.map((run) => ({ run, row: [String(run.timeline), run.systemIdentifier] }));
  const missing = gaps.map((run) => ({ run, row: ["gap", ""] }));
  const rows = [...stored, ...missing]
    .toSorted((one, other) => compareRuns(one.run, other.run))
    .map(({ run: { startLsn, endLsn }, row }) => [...row, startLsn, endLsn, sizeOf(startLsn, endLsn)]);
  return formatTable(
    [
      { title: "TIMELINE" },
      { title: "SYSTEM", cut: true },
      { title: "FROM" },
      { title: "TO" },
      { title: "SIZE", right: true },
    ],
    rows,
  );
}

function compareRuns(one: WalExtent, other: WalExtent): number {
  const [place, otherPlace] = [one, other].map((run) => `${run.repository} ${run.systemIdentifier}`) as [
    string,
    string,
  ];
  if (place !== otherPlace) return place < otherPlace ? -1 : 1;
  return one.timeline - other.timeline || (parseLsn(one.startLsn) < parseLsn(other.startLsn) ? -1 : 1);
}

const sizeOf = (from: string, to: string) => formatSize(parseLsn(to) - parseLsn(from));

function formatWindows(windows: readonly RecoveryWindow[]): string {
  return describeWindows(windows)
    .map((line) => `${line}\n`)
    .join("");
}
