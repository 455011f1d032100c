import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { WalArchiverSchema, WalSettingsSchema, WalSlotSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import {
  type WalArchive,
  WalArchiveSchema,
  type WalOwnership,
  WalOwnershipSchema,
} from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { recordEnd } from "@coppice/proto/kit/wal/record-end";
import type { WalArchiveRow } from "../../catalog/physical/wal-archive.ts";
import type { Extent } from "@coppice/proto/kit/recovery/extents";
import { timestampOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { formatEtag } from "../etag.ts";
import { times } from "./times.ts";

/** What the catalog knows of a cluster's WAL. */
export interface WalFacts {
  readonly cluster: { readonly id: string; readonly name: string };
  /** Undefined when none is archived. */
  readonly row: WalArchiveRow | undefined;
  /** How an agent archives it all the same, then; coppice.common.v1.WalSettings as proto JSON. */
  readonly straySettings?: JsonValue | undefined;
  readonly repositoryName?: string;
  /** By their ids: of every host that the row names and that is still there. */
  readonly hostNames?: ReadonlyMap<string, string>;
  /** Microseconds since 1970. */
  readonly storedUntilUs?: bigint | undefined;
  readonly extents: readonly Extent[];
  readonly gaps: readonly Extent[];
}

export function walArchiveMessage({
  cluster,
  row,
  straySettings,
  repositoryName = "",
  hostNames = new Map(),
  ...facts
}: WalFacts): WalArchive {
  const settings = row?.settings ?? straySettings;
  const message = create(WalArchiveSchema, {
    cluster: cluster.id,
    clusterName: cluster.name,
    ...(settings && { settings: fromJson(WalSettingsSchema, settings, { ignoreUnknownFields: true }) }),
    extents: facts.extents.map(extentMessage),
    gaps: facts.gaps.map(extentMessage),
  });
  if (row === undefined) return message;
  const { receivedLsn, storedLsn, serverLsn } = row;
  const position = (lsn: bigint | null) => (lsn === null ? "" : formatLsn(lsn));
  return create(WalArchiveSchema, {
    ...message,
    repository: row.repositoryId,
    repositoryName,
    systemIdentifier: row.systemIdentifier,
    host: row.hostId,
    hostName: hostNames.get(row.hostId) ?? "",
    ownership: ownershipMessage(row, hostNames),
    timeline: row.timeline ?? 0,
    receivedLsn: position(receivedLsn),
    storedLsn: position(storedLsn),
    serverLsn: position(serverLsn),
    ...describeLag(row, facts.storedUntilUs),
    ...(row.writtenRate === null ? {} : { writtenBytesPerSecond: row.writtenRate }),
    ...(row.storedRate === null ? {} : { storedBytesPerSecond: row.storedRate }),
    ...(row.slot === null ? {} : { slot: fromJson(WalSlotSchema, row.slot, { ignoreUnknownFields: true }) }),
    ...(facts.storedUntilUs === undefined ? {} : { storedTime: timestampOf(facts.storedUntilUs) }),
    ...(row.trouble === null
      ? {}
      : { trouble: fromJson(FailureDetailSchema, row.trouble, { ignoreUnknownFields: true }) }),
    ...(row.archiver === null
      ? {}
      : { archiver: fromJson(WalArchiverSchema, row.archiver, { ignoreUnknownFields: true }) }),
    slotStatus: row.slotStatus,
    etag: formatEtag(row.version),
    ...times({ reportTime: row.reportTime }),
  });
}

function ownershipMessage(row: WalArchiveRow, names: ReadonlyMap<string, string>): WalOwnership {
  const { nextHostId, nextTime, grantTime, grantTimeline, former, deadOwners } = row;
  const nameOf = (id: string) => names.get(id) ?? "a host that was removed";
  return create(WalOwnershipSchema, {
    ...times({ sinceTime: grantTime, nextTime }),
    firstTimeline: grantTimeline,
    ...(nextHostId === null ? {} : { nextHost: nextHostId, nextHostName: nameOf(nextHostId) }),
    ...(former === null
      ? {}
      : {
          formerHostName: nameOf(former.hostId),
          formerTimeline: former.timeline ?? 0,
          formerLsn: former.lsn ?? "",
          formerDead: former.isDead,
        }),
    // One that was removed comes back as nobody that is known here.
    deadHostNames: deadOwners.flatMap(({ hostId }) => names.get(hostId) ?? []),
  });
}

function extentMessage({ repository, systemIdentifier, timeline, startLsn, endLsn }: Extent) {
  return { repository, systemIdentifier, timeline, startLsn: formatLsn(startLsn), endLsn: formatLsn(endLsn) };
}

function describeLag(
  { serverLsn, storedLsn, segmentBytes, serverTime }: WalArchiveRow,
  storedUntilUs: bigint | undefined,
): { lagBytes?: bigint; lagSeconds?: number } {
  if (serverLsn === null || storedLsn === null) return {};
  // An idle server stands behind the header of a page that nothing is written to yet.
  const end = segmentBytes === null ? serverLsn : recordEnd(serverLsn, segmentBytes);
  if (end <= storedLsn) return { lagBytes: 0n, lagSeconds: 0 };
  const lagBytes = end - storedLsn;
  if (serverTime === null || storedUntilUs === undefined) return { lagBytes };
  const lagMs = serverTime.getTime() - Number(storedUntilUs / 1000n);
  // A clock that was set back says nothing of it.
  return lagMs < 0 ? { lagBytes } : { lagBytes, lagSeconds: Math.ceil(lagMs / 1000) };
}
