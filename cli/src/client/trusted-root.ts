import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { type DetailedPeerCertificate, connect } from "node:tls";
import { X509Certificate } from "node:crypto";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { certificateFingerprint, minTlsVersion } from "@coppice/proto/kit/tls";
import { writePrivateFile } from "../profile/profile-file.ts";
import { callFailure } from "./call-failure.ts";

const rootFile = (folder: string, fingerprint: string) =>
  join(folder, "authorities", `${fingerprint.replace("sha256:", "")}.pem`);

/** The self-signed certificate at the end of a server's chain. */
export interface PresentedRoot {
  readonly pem: string;
  /** `sha256:` and 64 hex digits. */
  readonly fingerprint: string;
}

/**
 * Asks a server for its chain and gives the root in it, which proves nothing yet: nothing is sent, and the caller
 * compares the fingerprint before it trusts. Fails with CONTROL_PLANE_UNREACHABLE, or CERTIFICATE_UNTRUSTED when
 * the chain holds no root.
 */
export async function fetchPresentedRoot(address: string, signal: AbortSignal): Promise<PresentedRoot> {
  const { hostname, port } = new URL(address);
  const host = hostname.replace(/^\[|\]$/g, "");
  const { promise, resolve, reject } = Promise.withResolvers<DetailedPeerCertificate>();
  const socket = connect({
    host,
    port: Number(port || 443),
    ...(isIP(host) ? {} : { servername: host }),
    rejectUnauthorized: false,
    minVersion: minTlsVersion,
    ALPNProtocols: ["h2"],
    timeout: 10_000,
  });
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  socket.once("secureConnect", () => resolve(socket.getPeerCertificate(true)));
  socket.once("timeout", () => reject(new Failure("DEADLINE_EXCEEDED", `${address} did not answer within 10 s`)));
  socket.once("error", (error) => reject(callFailure(error, address)));
  try {
    let certificate = await promise;
    while (certificate.issuerCertificate && certificate.issuerCertificate !== certificate) {
      certificate = certificate.issuerCertificate;
    }
    const root = new X509Certificate(certificate.raw);
    if (!root.checkIssued(root)) {
      fail("CERTIFICATE_UNTRUSTED", `${address} does not present its authority`, {
        hint: "check the address: a control plane sends its root certificate along",
      });
    }
    const pem = root.toString();
    return { pem, fingerprint: certificateFingerprint(pem) };
  } finally {
    signal.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** Keeps a root that was compared with its fingerprint, so that later starts need no extra handshake. */
export async function keepRoot(folder: string, { pem, fingerprint }: PresentedRoot): Promise<void> {
  await writePrivateFile(rootFile(folder, fingerprint), pem);
}

/**
 * The PEM of the root with that fingerprint: the one kept by a login, else the one that the server presents, if it is
 * that. Fails with CERTIFICATE_UNTRUSTED when the server presents another.
 */
export async function openTrustedRoot(
  { address, caFingerprint }: { readonly address: string; readonly caFingerprint: string },
  folder: string,
  signal: AbortSignal,
): Promise<string> {
  const kept = await readFile(rootFile(folder, caFingerprint), "utf8").catch((error: unknown) => {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    return fail("CONFIGURATION_INVALID", `${rootFile(folder, caFingerprint)} cannot be read: ${code}`);
  });
  // What is in the file counts for nothing unless it is what was pinned.
  if (kept !== undefined && certificateFingerprint(kept) === caFingerprint) return kept;
  const presented = await fetchPresentedRoot(address, signal);
  if (presented.fingerprint !== caFingerprint) {
    fail(
      "CERTIFICATE_UNTRUSTED",
      `${address} presents the authority ${presented.fingerprint}, expected ${caFingerprint}`,
    );
  }
  return presented.pem;
}
