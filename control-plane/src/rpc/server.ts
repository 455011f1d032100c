// The one port: it is long because TLS, HTTP/1.1 and HTTP/2, liveness of connections and their orderly end are one thing.
import { once } from "node:events";
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { type ConnectRouter, createContextValues, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import { fail, toFailure } from "@coppice/proto/kit/failure";
import { minTlsVersion } from "@coppice/proto/kit/tls";
import type { Logger } from "pino";
import { openAdapter } from "./adapter.ts";
import { peerKey, readPeer } from "./peer.ts";

const readMaxBytes = 4 * 1024 * 1024;

/** What the server shows of itself, and whom it believes, all PEM. */
export interface ServerTls {
  readonly privateKeyPem: string;
  /** Leaf first, root included: enrolling agents compare the root's fingerprint. */
  readonly certificateChainPem: string;
  /** Roots that agents' certificates come from. */
  readonly clientRootsPem: readonly string[];
}

/** What a server is made of. */
export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  readonly tls: ServerTls;
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  readonly gate: (context: HandlerContext) => Promise<void>;
  /** Throws when the control plane cannot do its work now. */
  readonly checkReady: () => Promise<void>;
  readonly log: Logger;
  /** Pause between pings of an HTTP/2 connection; one without an answer until the next ends it. */
  readonly pingMs: number;
}

/** A server that listens. Disposing tells streams to end, waits for them a little, and cuts the rest. */
export interface Server extends AsyncDisposable {
  readonly port: number;
}

type Response = Http2ServerResponse;

/** Opens the port: gRPC, gRPC-Web, Connect and JSON over HTTP/2 and HTTP/1.1. Errors: CONFIGURATION_INVALID. */
export async function openServer(options: ServerOptions): Promise<Server> {
  const { host, port, tls, log } = options;
  const ending = new AbortController();
  const serve = openAdapter(
    {
      routes: options.routes,
      interceptors: [...options.interceptors],
      requestGate: options.gate,
      readMaxBytes,
      // A misspelt field would be a wish that is silently not granted.
      jsonOptions: { ignoreUnknownFields: false },
      shutdownSignal: ending.signal,
      contextValues: (request) => createContextValues().set(peerKey, readPeer(request)),
    },
    log,
  );
  const server = createSecureServer({
    allowHTTP1: true,
    requestCert: true,
    // People come without a certificate; the methods of agents check theirs.
    rejectUnauthorized: false,
    minVersion: minTlsVersion,
    key: tls.privateKeyPem,
    cert: tls.certificateChainPem,
    ca: [...tls.clientRootsPem],
    settings: { maxConcurrentStreams: 250 },
  });
  const sockets = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    keepAlive(session, options.pingMs);
  });
  server.on("sessionError", (error) => log.debug({ err: error }, "connection failed"));
  server.on("tlsClientError", (error) => log.debug({ err: error }, "TLS handshake failed"));
  server.on("request", (request, response) => {
    // The adapter throws at a request whose authority is no authority, and a listener must not throw.
    const path = request.url.split("?", 1)[0];
    if (!isAuthority(request)) endWith(response, 400, "the request names no host\n");
    else if (path === "/healthz") endWith(response, 200, "ok\n");
    else if (path === "/readyz") void answerReady(response, options);
    else serve(request, response);
  });
  await listen(server, host, port);
  const address = server.address();
  const close = async () => {
    ending.abort(new Error("the control plane ends"));
    const closed = once(server, "close");
    server.close();
    for (const session of sessions) session.close();
    const patience = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, 3000);
    await closed;
    clearTimeout(patience);
  };
  return { port: isAddressInfo(address) ? address.port : port, [Symbol.asyncDispose]: close };
}

async function listen(server: Http2SecureServer, host: string, port: number): Promise<void> {
  const listening = once(server, "listening");
  server.listen(port, host);
  try {
    await listening;
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown";
    fail("CONFIGURATION_INVALID", `cannot listen on ${host} port ${port} (${code})`, {
      hint: "choose another address with --listen, or stop what uses this one",
      cause,
    });
  }
}

/** A connection whose other end is stopped or unreachable is found by its missing answer to a ping. */
function keepAlive(session: ServerHttp2Session, pingMs: number): void {
  let awaitsAnswer = false;
  const timer = setInterval(() => {
    if (session.destroyed || session.closed) return;
    if (awaitsAnswer) {
      session.destroy();
      return;
    }
    awaitsAnswer = true;
    session.ping((error) => {
      if (error === null) awaitsAnswer = false;
    });
  }, pingMs);
  session.once("close", () => clearInterval(timer));
  session.on("error", () => session.destroy());
}

async function answerReady(response: Response, { checkReady, log }: ServerOptions): Promise<void> {
  try {
    await checkReady();
    endWith(response, 200, "ready\n");
  } catch (error) {
    const { reason, message } = toFailure(error);
    log.warn({ err: error }, "not ready");
    endWith(response, 503, reason === "CATALOG_UNREACHABLE" ? `not ready: ${message}\n` : "not ready\n");
  }
}

function endWith(response: Response, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  response.end(text);
}

function isAuthority(request: Http2ServerRequest): boolean {
  // A request of HTTP/1.1, which has no such field, names its host in a header.
  const authority = request.authority || request.headers.host;
  return authority !== undefined && URL.canParse(`https://${authority}`);
}

function isAddressInfo(address: AddressInfo | string | null): address is AddressInfo {
  return typeof address === "object" && address !== null;
}
