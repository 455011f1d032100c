import { text } from "node:stream/consumers";
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
import { parseObjectOwner, parseWalAnchor, type WalAnchor, type WalPlace } from "../../repository/layout.ts";
import { type ListedRun, listedRun } from "../../repository/wal/listed-run.ts";
import type { Storage } from "../../storage/storage.ts";
import { readWal } from "../fetch/fetch-wal.ts";
import { joinRuns } from "../store/list-extents.ts";

/** What lies there of one server. */
interface Found {
  readonly place: WalPlace;
  /** Of a server whose segments are of unknown length nothing can be said. */
  readonly segmentBytes: bigint | undefined;
  readonly runs: ListedRun[];
  readonly anchors: WalAnchor[];
  readonly histories: string[];
}

type Reading = { readonly identities: string | undefined; readonly signal: AbortSignal };

/** As many anchors go into an answer; of more, some of those between are left out. */
const mostAnchors = 200_000;

/**
 * What a repository says of archived WAL: which there is by the names that lie there, times, and the histories of timelines.
 * `servers` say how long segments are. What cannot be told is named among the problems. Fails as the storage does.
 */
export async function scanWal(
  storage: Storage,
  { servers, ...reading }: Reading & { readonly servers: readonly ScannedServer[] },
): Promise<{ wal: ScannedWal[]; problems: string[] }> {
  const found = await listServers(storage, servers, reading.signal);
  const wal: ScannedWal[] = [];
  const problems: string[] = [];
  for (const server of found) {
    const { clusterId, systemIdentifier } = server.place;
    if (server.segmentBytes === undefined) {
      problems.push(
        `${clusterId}/wal/${systemIdentifier}: no physical backup of this server is known, which would say how long its segments are, so its WAL was left out; when its backups are in another repository, enter that one first`,
      );
      continue;
    }
    const histories = await readHistories(storage, server, { ...reading, problems });
    const sparse = Math.ceil(server.anchors.length / mostAnchors);
    wal.push(
      create(ScannedWalSchema, {
        clusterId,
        systemIdentifier,
        stored: joinRuns(server.runs).map(({ timeline, startLsn, endLsn }) => ({
          timeline,
          startLsn: formatLsn(startLsn),
          endLsn: formatLsn(endLsn),
        })),
        anchors: server.anchors
          .filter((_, index) => index % sparse === 0 || index === server.anchors.length - 1)
          .map(({ timeline, timeUs, lsn }) => ({ timeline, time: timestampOf(timeUs), lsn: formatLsn(lsn) })),
        histories,
      }),
    );
  }
  return { wal, problems };
}

async function listServers(storage: Storage, servers: readonly ScannedServer[], signal: AbortSignal): Promise<Found[]> {
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
    const server = found.get(id) ?? { place, segmentBytes, runs: [], anchors: [], histories: [] };
    found.set(id, server);
    const anchor = parseWalAnchor(key);
    if (anchor) server.anchors.push(anchor);
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
): Promise<{ timeline: number; content: string }[]> {
  const read: { timeline: number; content: string }[] = [];
  for (const name of histories) {
    const timeline = Number.parseInt(name, 16);
    if (historyName(timeline) !== name) continue;
    try {
      const plain = await readWal(storage, { place, name, identities, signal });
      if (plain) read.push({ timeline, content: await text(plain) });
    } catch (error) {
      signal.throwIfAborted();
      if (isFailure(error, "REPOSITORY_UNREACHABLE")) throw error;
      const why = error instanceof Error ? error.message : String(error);
      problems.push(
        `${place.clusterId}/wal/${place.systemIdentifier}/${name}: ${why}; without it nothing leads to timeline ${timeline}`,
      );
    }
  }
  return read;
}
