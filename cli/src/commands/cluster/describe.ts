import {
  type Cluster,
  type Instance,
  InstanceRoleSchema,
  type LastGoodBackup,
  type RecoveryWindow,
} from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatSize } from "@coppice/proto/kit/size";
import { formatEndpoint } from "../../input/endpoint.ts";
import { formatDetails } from "../../output/details.ts";
import { formatRelative } from "../../output/elapsed.ts";
import { enumLabel } from "../../output/enum-label.ts";
import { formatLabels } from "../../output/labels.ts";
import { formatTable } from "../../output/table.ts";
import { instantOf, timeOf } from "../../output/time.ts";
import { formatInstances } from "./instance.ts";
import { describeKept } from "./kept-databases.ts";

/** Whether it was reached at the last attempt. */
export const reachability = ({ reachable }: Pick<Cluster, "reachable">) =>
  reachable === undefined ? "not tried" : reachable ? "yes" : "no";

/** What is known of a cluster, its databases in a table. */
export function formatCluster(cluster: Cluster, now: Date): string {
  const incarnation = cluster.incarnations.at(-1);
  const { lastGoodDump, lastGoodPhysical, instances } = cluster;
  const [first, ...others] = instances;
  const details = formatDetails([
    ["name", cluster.name],
    ["id", cluster.id],
    ["labels", formatLabels(cluster.labels)],
    ...(others.length === 0 ? describeOnly(first) : []),
    ["version", incarnation && `PostgreSQL ${incarnation.major}, system identifier ${incarnation.systemIdentifier}`],
    [
      "reachable",
      `${reachability(cluster)}${cluster.reachableTime ? `, ${formatRelative(timeOf(cluster.reachableTime), now)}` : ""}`,
    ],
    [
      "last good dump",
      lastGoodDump ? `${lastGoodDump.backup}, ${formatRelative(timeOf(lastGoodDump.time), now)}` : "none",
    ],
    ["verified", lastGoodDump?.verifyTime ? formatRelative(timeOf(lastGoodDump.verifyTime), now) : "never"],
    ["last good physical", lastGoodPhysical && describeLastGood(lastGoodPhysical, now)],
    ["recovery", describeWindow(cluster.recoveryWindow)],
    ["kept aside", describeKept(cluster.databases)],
  ]);
  const servers = others.length === 0 ? "" : `\n${formatInstances(instances, now)}`;
  if (cluster.databases.length === 0) return `${details}${servers}`;
  const databases = formatTable(
    [{ title: "DATABASE", cut: true }, { title: "SIZE", right: true }, { title: "CONNECTIONS" }],
    cluster.databases.map(({ name, sizeBytes, allowConnections }) => [
      name,
      sizeBytes === undefined ? "-" : formatSize(sizeBytes),
      allowConnections ? "allowed" : "forbidden",
    ]),
  );
  return `${details}${servers}\n${databases}`;
}

function describeOnly(instance: Instance | undefined): (readonly [string, string])[] {
  if (instance === undefined) return [];
  const { endpoint, hostName, role, dataDirectory, hasPassword } = instance;
  const is = role ? ` (${enumLabel(InstanceRoleSchema, role)})` : "";
  return [
    ["endpoint", `${formatEndpoint(endpoint)}${is}, agent of ${hostName}`],
    ["data directory", dataDirectory],
    ["user", endpoint?.user || "postgres"],
    ["password", hasPassword ? "stored" : "not stored"],
  ];
}

function describeLastGood({ backup, time, verifyTime }: LastGoodBackup, now: Date): string {
  const verified = verifyTime ? `verified ${formatRelative(timeOf(verifyTime), now)}` : "never verified";
  return `${backup}, ${formatRelative(timeOf(time), now)}, ${verified}`;
}

/** What recovery can reach, in one line; empty when nothing is known of it. */
function describeWindow(window: RecoveryWindow | undefined): string {
  if (!window) return "";
  const from = instantOf(window.startTime) ?? window.startLsn;
  const to = instantOf(window.endTime) ?? window.endLsn;
  const gaps = window.gaps.map(({ startLsn, endLsn }) => `${startLsn} to ${endLsn}`);
  return `from ${from} to ${to}, timeline ${window.timeline}${gaps.length > 0 ? `, without ${gaps.join(", ")}` : ""}`;
}
