import { create, fromJson } from "@bufbuild/protobuf";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { WalArchiverSchema, WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { type WalArchive, WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
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
  readonly repositoryName?: string;
  readonly hostName?: string;
  /** Microseconds since 1970. */
  readonly storedUntilUs?: bigint | undefined;
  readonly extents: readonly Extent[];
}

export function walArchiveMessage({
  cluster,
  row,
  repositoryName = "",
  hostName = "",
  ...facts
}: WalFacts): WalArchive {
  const message = create(WalArchiveSchema, {
    cluster: cluster.id,
    clusterName: cluster.name,
    extents: facts.extents.map(({ repository, systemIdentifier, timeline, startLsn, endLsn }) => ({
      repository,
      systemIdentifier,
      timeline,
      startLsn: formatLsn(startLsn),
      endLsn: formatLsn(endLsn),
    })),
  });
  if (row === undefined) return message;
  const { receivedLsn, storedLsn, serverLsn } = row;
  const position = (lsn: bigint | null) => (lsn === null ? "" : formatLsn(lsn));
  return create(WalArchiveSchema, {
    ...message,
    repository: row.repositoryId,
    repositoryName,
    settings: fromJson(WalSettingsSchema, row.settings, { ignoreUnknownFields: true }),
    systemIdentifier: row.systemIdentifier,
    host: row.hostId,
    hostName,
    timeline: row.timeline ?? 0,
    receivedLsn: position(receivedLsn),
    storedLsn: position(storedLsn),
    serverLsn: position(serverLsn),
    ...(serverLsn === null || storedLsn === null
      ? {}
      : { lagBytes: serverLsn > storedLsn ? serverLsn - storedLsn : 0n }),
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
