import { Failure } from "@coppice/proto/kit/failure";
import { formatAddress, type ResolvedEndpoint } from "../../postgres/endpoint.ts";
import type { ReplicationConnection, SystemIdentity } from "../../postgres/replication/open-replication.ts";
import type { PreparedBackup } from "./prepare-backup.ts";

/** Fails with CLUSTER_CHANGED when a replication connection has come to another cluster. */
export function requireSystem(
  endpoint: ResolvedEndpoint,
  seen: Pick<SystemIdentity, "systemIdentifier">,
  systemIdentifier: string,
): void {
  if (seen.systemIdentifier === systemIdentifier) return;
  throw new Failure(
    "CLUSTER_CHANGED",
    `replication connections to ${formatAddress(endpoint)} reach another cluster, ${seen.systemIdentifier} instead of ${systemIdentifier}`,
  );
}

/** Fails with TIMELINE_CHANGED when a server is on another timeline than it was. */
export function requireTimeline(before: number, now: number): void {
  if (now === before) return;
  throw new Failure("TIMELINE_CHANGED", `the server went over from timeline ${before} to ${now} during the backup`);
}

/**
 * An address may lead somewhere else from one connection to the next: each that carries a part of the backup has to have
 * come to the server that was looked at. Fails with CLUSTER_CHANGED or TIMELINE_CHANGED.
 */
export async function requireSameServer(
  replication: ReplicationConnection,
  { endpoint, facts, timeline }: Pick<PreparedBackup, "endpoint" | "facts" | "timeline">,
): Promise<void> {
  const seen = await replication.identify();
  requireSystem(endpoint, seen, facts.systemIdentifier);
  requireTimeline(timeline, seen.timeline);
}
