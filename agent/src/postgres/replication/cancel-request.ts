import { connect, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { formatAddress, type ResolvedEndpoint } from "../endpoint.ts";
import type { BackendKey } from "../connect.ts";

const requestCode = 80_877_102;
const patienceMs = 1000;

/** Opens a second line to where the first one leads, also when the name has several addresses. */
function openSecond(endpoint: ResolvedEndpoint, first: Duplex): Socket {
  if (endpoint.host.startsWith("/")) return connect({ path: formatAddress(endpoint) });
  const address = first instanceof Socket ? first.remoteAddress : undefined;
  return connect({ host: address ?? endpoint.hostAddress ?? endpoint.host, port: endpoint.port });
}

/**
 * Makes a function that asks the server to stop what a connection is doing. A server process that waits for a
 * checkpoint writes nothing, so it would not notice that its client is gone. The request is sent in the clear, as
 * libpq does before 17: its key is worth nothing once this connection ends. It is an attempt: nothing tells whether
 * the server took it, and it is over within a second.
 */
export function prepareCancel(endpoint: ResolvedEndpoint, first: Duplex, key: BackendKey): () => Promise<void> {
  const request = Buffer.alloc(16);
  for (const [index, value] of [16, requestCode, key.processId, key.secret].entries())
    request.writeInt32BE(value, index * 4);
  const open = () => openSecond(endpoint, first);
  return async () => {
    const socket = open();
    const closed = new Promise<void>((resolve) => {
      // The line it is about is being torn down; that the server cannot be asked is no news.
      socket.on("error", () => resolve());
      socket.on("close", () => resolve());
    });
    // The server closes when it has passed the request on.
    socket.on("connect", () => socket.write(request)).resume();
    const timer = new AbortController();
    await Promise.race([closed, delay(patienceMs, undefined, { signal: timer.signal }).catch(() => {})]);
    timer.abort();
    socket.destroy();
  };
}
