import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { findCertificate } from "../catalog/fleet/certificate.ts";

/** The certificate that an agent showed. */
export interface PeerCertificate {
  /** `sha256:` and hex, of its DER form. */
  readonly fingerprint: string;
  /** Whether it was issued by our authority and is within its time. */
  readonly authorized: boolean;
  /** Why not. */
  readonly problem: string;
}

/** Whose agent it is. */
export interface PeerIdentity {
  readonly hostId: string;
  readonly hostName: string;
  readonly fingerprint: string;
}

/** The host that a certificate belongs to. Errors: CERTIFICATE_REFUSED when it is none of ours, expired or revoked. */
export async function admitPeer(
  db: Database,
  certificate: PeerCertificate | undefined,
  now: Date,
): Promise<PeerIdentity> {
  if (certificate === undefined) return fail("CERTIFICATE_REFUSED", "the agent showed no certificate");
  const { fingerprint, authorized, problem } = certificate;
  const record = await findCertificate(db, fingerprint);
  if (record === undefined)
    return fail("CERTIFICATE_REFUSED", "the agent's certificate is unknown: its host was removed");
  const { hostId, hostName, notAfter, revokeTime } = record;
  if (revokeTime !== null) {
    fail("CERTIFICATE_REFUSED", `the certificate of ${hostName} was revoked at ${revokeTime.toISOString()}`);
  }
  if (notAfter <= now)
    fail("CERTIFICATE_REFUSED", `the certificate of ${hostName} expired at ${notAfter.toISOString()}`);
  if (!authorized) fail("CERTIFICATE_REFUSED", `the certificate of ${hostName} does not verify: ${problem}`);
  return { hostId, hostName, fingerprint };
}
