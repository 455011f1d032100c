import type { Database } from "../catalog/catalog.ts";
import { revokeCertificates } from "../catalog/fleet/certificate.ts";
import { deleteUnusedEnrolments } from "../catalog/fleet/enrolment.ts";
import { endSessions, noteUnenrolled } from "../catalog/fleet/session.ts";

/** Ends the access that a host has: its certificates are good for nothing, and its session ends on any replica. */
export async function endAccess(tx: Database, hostId: string, now: Date): Promise<void> {
  await endSessions(tx, hostId);
  await revokeCertificates(tx, hostId, now);
}

/** Takes a host back to where it was before an agent enrolled: no access, no token that could give it one. */
export async function revokeHost(tx: Database, hostId: string, now: Date): Promise<void> {
  await endAccess(tx, hostId, now);
  await deleteUnusedEnrolments(tx, hostId);
  await noteUnenrolled(tx, hostId);
}
