import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** What happens to a request on its way. */
export type Fault =
  /** It never reaches the server; this is its answer. */
  | { readonly is: "answer"; readonly status: number; readonly body?: string }
  /** It is carried out, and the connection ends before a byte of the answer. */
  | { readonly is: "drop-answer" }
  /** The connection ends before the server hears of it. */
  | { readonly is: "drop" }
  /** The answer's body ends, with the connection, after so many bytes. */
  | { readonly is: "cut-answer"; readonly afterBytes: number }
  /** It goes on only after so long. */
  | { readonly is: "delay"; readonly ms: number }
  /** Nobody ever answers. */
  | { readonly is: "hang" };

/** A request as a rule sees it. */
export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** How many requests of this method and URL there were before. */
  readonly earlier: number;
}

/** An HTTP proxy in front of one server that does wrong what its rule says. */
export interface FaultProxy extends AsyncDisposable {
  readonly endpoint: string;
  /** All requests so far, "METHOD url", in order. */
  readonly requests: string[];
  /** The status of each answer of the server itself, in order. */
  readonly statuses: number[];
  /** Says what happens to each request; undefined lets it pass. */
  rule: (request: SeenRequest) => Fault | undefined;
}

/** Opens a proxy on 127.0.0.1 in front of the server at `target`, an http endpoint. Host headers pass as they are. */
export async function openFaultProxy(target: string): Promise<FaultProxy> {
  const { hostname, port } = new URL(target);
  const counts = new Map<string, number>();
  const server = createServer((incoming, answer) => {
    const { method = "", url = "" } = incoming;
    const name = `${method} ${url}`;
    const earlier = counts.get(name) ?? 0;
    counts.set(name, earlier + 1);
    proxy.requests.push(name);
    incoming.on("error", () => {});
    answer.on("error", () => {});
    pass(incoming, answer, proxy.rule({ method, url, earlier })).catch((error: unknown) => {
      // A client that has gone away in the middle of its request needs no answer.
      if (!(error instanceof Error && "code" in error && error.code === "ECONNRESET")) throw error;
      answer.destroy();
    });
  });
  const pass = async (incoming: IncomingMessage, answer: ServerResponse, fault: Fault | undefined) => {
    if (fault?.is === "hang") return void incoming.resume();
    if (fault?.is === "drop") return void incoming.socket.destroy();
    if (fault?.is === "answer") {
      incoming.resume();
      await once(incoming, "end");
      answer.writeHead(fault.status, { "content-type": "application/xml" }).end(fault.body ?? "");
      return;
    }
    if (fault?.is === "delay") await delay(fault.ms);
    const { method, url: path, rawHeaders: headers } = incoming;
    const outgoing = request({ hostname, port, method, path, headers, setHost: false, agent: false });
    outgoing.on("error", () => incoming.socket.destroy());
    outgoing.on("response", (response) => {
      response.on("error", () => incoming.socket.destroy());
      proxy.statuses.push(response.statusCode ?? 0);
      if (fault?.is === "drop-answer") {
        response.resume().on("end", () => incoming.socket.destroy());
        return;
      }
      answer.writeHead(response.statusCode ?? 502, response.rawHeaders);
      if (fault?.is !== "cut-answer") return void response.pipe(answer);
      let rest = fault.afterBytes;
      response.on("data", (chunk: Buffer) => {
        if (rest <= 0) return;
        answer.write(chunk.subarray(0, rest));
        rest -= chunk.length;
        // The bytes leave first, then the connection.
        if (rest <= 0) answer.write("", () => incoming.socket.destroySoon());
      });
    });
    incoming.pipe(outgoing);
    answer.on("close", () => outgoing.destroy());
  };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port");
  const proxy: FaultProxy = {
    endpoint: `http://127.0.0.1:${address.port}`,
    requests: [],
    statuses: [],
    rule: () => undefined,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}
