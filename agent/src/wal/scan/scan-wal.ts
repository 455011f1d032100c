import { create } from "@bufbuild/protobuf";
import {
  type ScannedServer,
  type ScannedWal,
  ScannedWalSchema,
} from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { isFailure } from "@coppice/proto/kit/failure";
import { timestampOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { historyName, isSegmentSize } from "@coppice/proto/kit/wal/segment";
import { parseObjectOwner, parseWalAnchor, type WalPlace } from "../../repository/layout.ts";
import { type ListedRun, listedRun } from "../../repository/wal/listed-run.ts";
import type { Storage } from "../../storage/storage.ts";
import { readWalText } from "../fetch/fetch-wal.ts";
import { joinRuns } from "../store/list-extents.ts";
import { openAnchors, thinAnchors } from "./thin-anchors.ts";

/** What lies there of one server. */
interface Found {
  readonly place: WalPlace;
  /** Of a server whose segments are of unknown length nothing can be said. */
  readonly segmentBytes: bigint | undefined;
  readonly runs: ListedRun[];
  readonly anchors: ReturnType<typeof openAnchors>;
  readonly histories: string[];
}

type Reading = { readonly identities: string | undefined; readonly signal: AbortSignal };

/** All servers' anchors go into one message of a session, beside what scanRepository takes of it. */
const mostAnchorBytes = 8 * 1024 * 1024;
/** No anchor takes more of it, with its time and its position as text. */
const anchorBytes = 48;

/**
 * What a repository says of archived WAL: which there is by the names that lie there, times, and the histories of timelines.
 * Of times no more than fit into an answer, all servers' alike. `servers` say how long segments are. What cannot be told is named among the
 * problems; `undecrypted` is whether an identity would have told some of it. WAL without a backup that leads into it is left out. Fails as the
 * storage does.
 */
export async function scanWal(
  storage: Storage,
  { servers, ...reading }: Reading & { readonly servers: readonly ScannedServer[] },
): Promise<{ wal: ScannedWal[]; problems: string[]; leftOut: string[]; undecrypted: boolean }> {
  const nowUs = Date.now() * 1000;
  const found = await listServers(storage, servers, { nowUs, signal: reading.signal });
  const wal: ScannedWal[] = [];
  const problems: string[] = [];
  const leftOut: string[] = [];
  let undecrypted = false;
  const thinned = thinAnchors(
    found.map(({ segmentBytes, anchors }) => (segmentBytes === undefined ? [] : anchors.anchors)),
    { most: mostAnchorBytes / anchorBytes, nowUs },
  );
  for (const [index, server] of found.entries()) {
    const { clusterId, systemIdentifier } = server.place;
    if (server.segmentBytes === undefined) {
      leftOut.push(
        `${clusterId}/wal/${systemIdentifier}: no physical backup of this server is known, so its WAL was left out: nothing is recovered from it; when its backups are in another repository, rebuild that one, and then this one again`,
      );
      continue;
    }
    const { histories, isMissed } = await readHistories(storage, server, { ...reading, problems });
    undecrypted ||= isMissed;
    wal.push(
      create(ScannedWalSchema, {
        clusterId,
        systemIdentifier,
        stored: joinRuns(server.runs).map(({ timeline, startLsn, endLsn }) => ({
          timeline,
          startLsn: formatLsn(startLsn),
          endLsn: formatLsn(endLsn),
        })),
        anchors: (thinned.servers[index] ?? []).map(({ timeline, timeUs, lsn }) => ({
          timeline,
          time: timestampOf(timeUs),
          lsn: formatLsn(lsn),
        })),
        histories,
      }),
    );
  }
  if (thinned.wasCut) {
    const { olderMinutes, recentMinutes } = thinned.density;
    const recent = recentMinutes === 0 ? "all" : `one of each ${recentMinutes} minutes`;
    problems.push(
      `there are more times of WAL, of ${wal.length} servers, than one answer holds (${mostAnchorBytes / 1024 / 1024} MiB): of those older than seven days one of each ${olderMinutes} minutes was entered, of those since ${recent}; how far WAL reaches in time is known no closer than that; all WAL itself was entered`,
    );
  }
  return { wal, problems, leftOut, undecrypted };
}

async function listServers(
  storage: Storage,
  servers: readonly ScannedServer[],
  { nowUs, signal }: { readonly nowUs: number; readonly signal: AbortSignal },
): Promise<Found[]> {
  const idOf = ({ clusterId, systemIdentifier }: WalPlace) => `${clusterId} ${systemIdentifier}`;
  const sizes = new Map(servers.map((server) => [idOf(server), server.segmentBytes]));
  const found = new Map<string, Found>();
  for await (const { key } of storage.list("", signal)) {
    const owner = parseObjectOwner(key);
    if (owner.is !== "wal" && owner.is !== "walAnchor") continue;
    const { clusterId, systemIdentifier } = owner;
    const id = idOf(owner);
    const size = sizes.get(id);
    const segmentBytes = size !== undefined && isSegmentSize(size) ? size : undefined;
    const place = { clusterId, systemIdentifier };
    const server = found.get(id) ?? { place, segmentBytes, runs: [], anchors: openAnchors(nowUs), histories: [] };
    found.set(id, server);
    const anchor = parseWalAnchor(key);
    if (anchor) server.anchors.add(anchor);
    if (owner.is === "wal" && owner.name.endsWith(".history")) server.histories.push(owner.name);
    const run = segmentBytes === undefined ? undefined : listedRun(key, segmentBytes);
    if (run) server.runs.push(run);
  }
  return [...found.values()];
}

async function readHistories(
  storage: Storage,
  { place, histories }: Found,
  { identities, signal, problems }: Reading & { readonly problems: string[] },
): Promise<{
  histories: { timeline: number; content: string }[];
  /** Whether an identity was missed. */ isMissed: boolean;
}> {
  const read: { timeline: number; content: string }[] = [];
  let isMissed = false;
  for (const name of histories) {
    const timeline = Number.parseInt(name, 16);
    if (historyName(timeline) !== name) continue;
    try {
      const content = await readWalText(storage, { place, name, identities, signal });
      if (content !== undefined) read.push({ timeline, content });
    } catch (error) {
      signal.throwIfAborted();
      if (isFailure(error, "REPOSITORY_UNREACHABLE")) throw error;
      const isEncrypted = isFailure(error, "IDENTITY_MISSING");
      isMissed ||= isEncrypted;
      const told = error instanceof Error ? error.message : String(error);
      const why = isEncrypted ? "it is encrypted, and this host was given no identity to read it" : told;
      problems.push(
        `${place.clusterId}/wal/${place.systemIdentifier}/${name}: ${why}; without it nothing leads to timeline ${timeline}`,
      );
    }
  }
  return { histories: read, isMissed };
}
