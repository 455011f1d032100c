import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A proxy on 127.0.0.1 that leads each new connection to a port, and may fall silent. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Lets nothing through any more, as a network does that has lost the way: no side hears of it. */
  mute(): void;
  /** The same for the connections that are open now; later ones are let through. */
  muteOpen(): void;
}

/** Opens one; `lead` gives the port on 127.0.0.1 that the next connection is led to. */
export async function openTcpProxy(lead: () => number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isMute = false;
  const muted = new WeakSet<Socket>();
  const server = createServer((incoming) => {
    const outgoing = connect({ host: "127.0.0.1", port: lead() });
    const pass = (from: Socket, to: Socket) => {
      sockets.add(from);
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        if (!isMute && !muted.has(from)) to.destroy();
      });
      from.on("data", (chunk: Buffer) => {
        if (isMute || muted.has(from)) return;
        if (to.write(chunk)) return;
        from.pause();
        to.once("drain", () => from.resume());
      });
    };
    pass(incoming, outgoing);
    pass(outgoing, incoming);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    mute() {
      isMute = true;
    },
    muteOpen() {
      for (const socket of sockets) muted.add(socket);
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
