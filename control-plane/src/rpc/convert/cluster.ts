import { create, fromJson } from "@bufbuild/protobuf";
import { EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { type Cluster, ClusterSchema, InstanceRole } from "@coppice/proto/gen/coppice/control/v1/cluster";
import type { LastGoodDump } from "../../catalog/backup.ts";
import { type ClusterRecord, mainInstance } from "../../catalog/cluster.ts";
import { formatEtag } from "../etag.ts";
import { times } from "./times.ts";

/** What the catalog knows about clusters besides their records. */
export interface ClusterFacts {
  /** By host id. */
  readonly hostNames: ReadonlyMap<string, string>;
  /** By cluster id. */
  readonly lastGoodDumps: ReadonlyMap<string, LastGoodDump>;
  readonly lastGoodPhysicals: ReadonlyMap<string, LastGoodDump>;
}

export function clusterMessage(record: ClusterRecord, facts: ClusterFacts): Cluster {
  const { row, instances, incarnations, databases } = record;
  const last = facts.lastGoodDumps.get(row.id);
  const physical = facts.lastGoodPhysicals.get(row.id);
  const main = mainInstance(record);
  return create(ClusterSchema, {
    id: row.id,
    name: row.name,
    labels: row.labels,
    etag: formatEtag(row.version),
    instances: instances.map((instance) => ({
      id: instance.id,
      endpoint: fromJson(EndpointSchema, instance.endpoint),
      role: InstanceRole[instance.role],
      host: instance.hostId,
      hostName: facts.hostNames.get(instance.hostId) ?? "",
      dataDirectory: instance.dataDirectory,
      hasPassword: instance.passwordSecretId !== null,
      ...(instance.reachable === null ? {} : { reachable: instance.reachable }),
      ...times({ reachableTime: instance.reachableTime }),
    })),
    incarnations: incarnations.map((incarnation) => ({
      systemIdentifier: incarnation.systemIdentifier,
      major: incarnation.major,
      serverVersionNum: incarnation.serverVersionNum,
      ...times({ firstSeenTime: incarnation.firstSeenTime }),
    })),
    databases: databases.map(({ name, sizeBytes, allowConnections }) => ({
      name,
      allowConnections,
      ...(sizeBytes === null ? {} : { sizeBytes }),
    })),
    ...(last === undefined ? {} : { lastGoodDump: lastGood(last) }),
    ...(physical === undefined ? {} : { lastGoodPhysical: lastGood(physical) }),
    ...(main === undefined || main.reachable === null ? {} : { reachable: main.reachable }),
    hasPassword: instances.some(({ passwordSecretId }) => passwordSecretId !== null),
    ...times({ createTime: row.createTime, updateTime: row.updateTime, reachableTime: main?.reachableTime ?? null }),
  });
}

function lastGood({ backupId, startTime, verifyTime }: LastGoodDump) {
  return { backup: backupId, ...times({ time: startTime, verifyTime }) };
}
