import { createHash, randomBytes } from "node:crypto";
import type { EnrollRequest } from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import { formatEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import { insertCertificate } from "../catalog/fleet/certificate.ts";
import { ensureHost, findEnrolment, replaceEnrolment, useEnrolment } from "../catalog/fleet/enrolment.ts";
import type { HostRow } from "../catalog/host.ts";
import type { Authority } from "./authority.ts";
import { issueClientCertificate, readRequest } from "./certificates.ts";
import { endAccess } from "./revocation.ts";

/** A single-use token, to be shown once. */
export interface NewEnrolment {
  readonly id: string;
  readonly host: HostRow;
  /** Secret: never logged. */
  readonly token: string;
  /** The line to paste on the host; secret too. */
  readonly command: string;
  readonly expireTime: Date;
}

const validMs = 30 * 60_000;

/**
 * Makes a token for the host of that name, and the host when there is none. A host whose agent lost its folder may
 * enrol again. Errors: HOST_ENROLLED while its agent is connected.
 */
export async function createEnrolment(
  tx: Database,
  options: {
    /** Id of the enrolment that is made. */
    readonly id: string;
    readonly hostName: string;
    readonly labels: Record<string, string>;
    /** Where agents reach the control plane: `https://host:port`. */
    readonly addresses: readonly string[];
    readonly authority: Authority;
    readonly now: Date;
  },
): Promise<NewEnrolment> {
  const { id, hostName, labels, addresses, authority, now } = options;
  const host = await ensureHost(tx, { id: newId("hst"), name: hostName, labels });
  if (host.state === "CONNECTED") fail("HOST_ENROLLED", `an agent is connected as ${hostName}`);
  const secret = randomBytes(32).toString("base64url");
  const expireTime = new Date(now.getTime() + validMs);
  await replaceEnrolment(tx, { id, hostId: host.id, tokenHash: hashSecret(secret), expireTime });
  const token = formatEnrolmentToken({ addresses, ca: authority.fingerprint, host: hostName, secret });
  return { id, host, token, command: `printf %s '${token}' | coppice-agent enroll -`, expireTime };
}

/** The identity of an agent. */
export interface AgentIdentity {
  readonly hostId: string;
  readonly hostName: string;
  readonly certificateChainPem: string;
}

/**
 * Trades a token for a client certificate; in the same transaction the token is used up, certificates that the host had
 * before are revoked and their sessions end. Errors: TOKEN_UNKNOWN, TOKEN_USED, TOKEN_EXPIRED, TOKEN_WRONG_HOST,
 * INVALID_FIELD, none of which uses it up.
 */
export async function enroll(
  tx: Database,
  authority: Authority,
  { token, hostName, csrPem }: EnrollRequest,
): Promise<AgentIdentity> {
  const now = new Date();
  const publicKey = await readRequest(csrPem);
  const enrolment = await findEnrolment(tx, hashSecret(token));
  if (enrolment === undefined) fail("TOKEN_UNKNOWN", "the enrolment token is unknown or was replaced by a newer one");
  if (enrolment.hostName !== hostName) {
    fail("TOKEN_WRONG_HOST", `the enrolment token was made for another host than ${hostName}`);
  }
  if (enrolment.useTime !== null) {
    fail("TOKEN_USED", `the enrolment token was used at ${enrolment.useTime.toISOString()}`);
  }
  const { hostId, expireTime } = enrolment;
  if (expireTime <= now) fail("TOKEN_EXPIRED", `the enrolment token expired at ${expireTime.toISOString()}`);
  if (!(await useEnrolment(tx, enrolment.id))) fail("TOKEN_USED", "the enrolment token was used just now");
  const issued = await issueClientCertificate(authority.root, { publicKey, hostId, now });
  const { chainPem, fingerprint, serial, notBefore, notAfter } = issued;
  await endAccess(tx, hostId, now);
  await insertCertificate(tx, { fingerprint, hostId, serial, notBefore, notAfter });
  return { hostId, hostName, certificateChainPem: chainPem };
}

function hashSecret(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}
