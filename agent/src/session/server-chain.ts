import { once } from "node:events";
import { isIP } from "node:net";
import { connect, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import { fail } from "@coppice/proto/kit/failure";
import { pem } from "./certificate-request.ts";
import { certificateFingerprint, minTlsVersion } from "@coppice/proto/kit/tls";

/**
 * Calls the address and gives the certificate (PEM) with the fingerprint out of the chain that the server sends: the
 * control plane's root, to be the only one trusted from then on. Fails with CONTROL_PLANE_UNREACHABLE, or
 * CERTIFICATE_UNTRUSTED when the chain has no such certificate.
 */
export async function fetchRoot(address: string, fingerprint: string, signal: AbortSignal): Promise<string> {
  // Nothing is believed yet and nothing is sent: the fingerprint decides, and the call that follows verifies.
  await using socket = await openTls(address, { rejectUnauthorized: false }, signal);
  const chain = chainOf(socket.tls.getPeerCertificate(true));
  const root = chain.find(({ raw }) => certificateFingerprint(raw) === fingerprint);
  const last = chain.at(-1);
  return root
    ? pem("CERTIFICATE", root.raw)
    : fail(
        "CERTIFICATE_UNTRUSTED",
        `${address} shows another authority than the token: ${last ? certificateFingerprint(last.raw) : "none"}`,
      );
}

/** Whether TLS with the address comes about, its certificate checked against the roots (PEM) and its name. Fails as fetchRoot. */
export async function checkServer(address: string, rootsPem: readonly string[], signal: AbortSignal): Promise<void> {
  await using socket = await openTls(address, { ca: [...rootsPem], rejectUnauthorized: false }, signal);
  const { authorized, authorizationError } = socket.tls;
  if (!authorized) fail("CERTIFICATE_UNTRUSTED", `${address}: ${String(authorizationError)}`);
}

interface Trust {
  readonly ca?: string[];
  readonly rejectUnauthorized: boolean;
}

async function openTls(
  address: string,
  trust: Trust,
  signal: AbortSignal,
): Promise<{ readonly tls: TLSSocket } & AsyncDisposable> {
  const { hostname, port } = new URL(address);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const tls = connect({
    ...trust,
    host,
    port: Number(port || "443"),
    ALPNProtocols: ["h2"],
    minVersion: minTlsVersion,
    ...(isIP(host) === 0 ? { servername: host } : {}),
  });
  try {
    await once(tls, "secureConnect", { signal });
  } catch (error) {
    tls.destroy();
    if (signal.aborted) throw signal.reason;
    const code = error instanceof Error && "code" in error ? String(error.code) : "no connection";
    fail("CONTROL_PLANE_UNREACHABLE", `${address}: ${code}`, { cause: error });
  }
  // What happens to the connection from here on changes nothing of what was seen.
  tls.on("error", () => undefined);
  return {
    tls,
    async [Symbol.asyncDispose]() {
      tls.destroy();
    },
  };
}

/** Leaf first; a root is its own issuer. */
function chainOf(leaf: DetailedPeerCertificate): DetailedPeerCertificate[] {
  const chain: DetailedPeerCertificate[] = [];
  let next: DetailedPeerCertificate | undefined = leaf;
  while (next?.raw && !chain.some(({ raw }) => next?.raw.equals(raw))) {
    chain.push(next);
    next = next.issuerCertificate;
  }
  return chain;
}
