import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { type ConnectionOptions, getCACertificates } from "node:tls";
import { fail } from "@coppice/proto/kit/failure";
import { isSocket, type ResolvedEndpoint } from "./endpoint.ts";

/** How one try to connect protects the line; false is not at all. */
export type TlsAttempt = ConnectionOptions | false;

async function readCertificate(file: string): Promise<string> {
  return readFile(file, "utf8").catch((cause: unknown) => fail("TLS_REFUSED", `${file} cannot be read`, { cause }));
}

/**
 * The tries that libpq would make, in order, for the endpoint's sslmode: `require` checks the chain when there is a
 * root certificate, `prefer` and `allow` check nothing, a Unix socket knows no TLS. Fails with TLS_REFUSED when a
 * certificate file is missing.
 * https://www.postgresql.org/docs/current/libpq-ssl.html
 */
export async function planTlsAttempts(endpoint: ResolvedEndpoint): Promise<TlsAttempt[]> {
  const { sslMode, sslRootCert, sslCert, sslKey } = endpoint;
  if (isSocket(endpoint) || sslMode === "disable") return [false];
  const own = sslCert && sslKey ? { cert: await readCertificate(sslCert), key: await readCertificate(sslKey) } : {};
  const servername = isIP(endpoint.host) === 0 ? { servername: endpoint.host } : {};
  const unchecked: ConnectionOptions = { ...own, ...servername, rejectUnauthorized: false };
  if (sslMode === "allow") return [false, unchecked];
  if (sslMode === "prefer") return [unchecked, false];
  if (!sslRootCert) {
    if (sslMode === "require") return [unchecked];
    return fail("TLS_REFUSED", `sslmode ${sslMode} needs a root certificate, and none is named`, {
      hint: "name the file with sslrootcert, or put it into ~/.postgresql/root.crt of the agent's user",
    });
  }
  const ca = sslRootCert === "system" ? getCACertificates("system") : await readCertificate(sslRootCert);
  const checked: ConnectionOptions = { ...own, ...servername, ca, rejectUnauthorized: true };
  // Without a function Node compares the certificate's names with the host, which is verify-full.
  const isNameChecked = sslMode === "verify-full" || sslRootCert === "system";
  return [isNameChecked ? checked : { ...checked, checkServerIdentity: () => undefined }];
}
