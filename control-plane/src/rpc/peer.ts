import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import type { TLSSocket } from "node:tls";
import { createContextKey } from "@connectrpc/connect";

/** The certificate that a client showed; its chain is checked against our own authority. */
export interface ClientCertificate {
  /** `sha256:` and hex, of its DER form. */
  readonly fingerprint: string;
  /** DER. */
  readonly raw: Uint8Array;
  /** Whether it was issued by our authority and is within its time. Revocation is looked up by who uses it. */
  readonly authorized: boolean;
  /** Why not. */
  readonly problem: string;
}

/** Who is at the other end of a connection. */
export interface Peer {
  readonly address: string;
  /** Undefined when the client showed none. */
  readonly certificate: ClientCertificate | undefined;
}

/** The peer of the call at hand. */
export const peerKey = createContextKey<Peer>({ address: "", certificate: undefined }, { description: "peer" });

// Reading a certificate is dear and it never changes within a connection.
const known = new WeakMap<object, Peer>();

/** The peer of a request, read once for each connection. */
export function readPeer(request: IncomingMessage | Http2ServerRequest): Peer {
  // Over HTTP/2 each request has a proxy of the socket; the session is what stays.
  const connection = "stream" in request ? (request.stream.session ?? request.socket) : request.socket;
  const found = known.get(connection);
  if (found !== undefined) return found;
  const peer = { address: request.socket.remoteAddress ?? "", certificate: readCertificate(request.socket) };
  known.set(connection, peer);
  return peer;
}

function readCertificate(socket: object): ClientCertificate | undefined {
  if (!isTls(socket)) return undefined;
  const { raw } = socket.getPeerCertificate();
  if (raw === undefined) return undefined;
  return {
    fingerprint: `sha256:${createHash("sha256").update(raw).digest("hex")}`,
    raw,
    authorized: socket.authorized,
    problem: socket.authorized ? "" : String(socket.authorizationError),
  };
}

function isTls(socket: object): socket is TLSSocket {
  return "getPeerCertificate" in socket && typeof socket.getPeerCertificate === "function";
}
