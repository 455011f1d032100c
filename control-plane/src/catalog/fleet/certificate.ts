import { and, eq, isNull } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { certificate, host } from "../schema/host.ts";

/** A client certificate with the name of its host. */
export interface CertificateRecord {
  readonly hostId: string;
  readonly hostName: string;
  readonly notAfter: Date;
  readonly revokeTime: Date | null;
}

/** The certificate with that fingerprint. */
export async function findCertificate(db: Database, fingerprint: string): Promise<CertificateRecord | undefined> {
  const [row] = await db
    .select({
      hostId: certificate.hostId,
      hostName: host.name,
      notAfter: certificate.notAfter,
      revokeTime: certificate.revokeTime,
    })
    .from(certificate)
    .innerJoin(host, eq(host.id, certificate.hostId))
    .where(eq(certificate.fingerprint, fingerprint));
  return row;
}

/** Notes a certificate that was given to an agent. */
export async function insertCertificate(tx: Database, row: typeof certificate.$inferInsert): Promise<void> {
  await tx.insert(certificate).values(row);
}

/** Revokes every certificate of the host that is not revoked yet. */
export async function revokeCertificates(tx: Database, hostId: string, now: Date): Promise<void> {
  await tx
    .update(certificate)
    .set({ revokeTime: now })
    .where(and(eq(certificate.hostId, hostId), isNull(certificate.revokeTime)));
}
