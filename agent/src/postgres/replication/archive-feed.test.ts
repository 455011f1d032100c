import { connect, createServer, type Socket } from "node:net";
import { once } from "node:events";
import { expect, test } from "vitest";
import { openArchiveFeed } from "./archive-feed.ts";
import type { Line } from "./line.ts";

test("an archive that ends while its reader is behind leaves nothing of the line held", async () => {
  const server = createServer((peer) => peer.end("what comes next")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const socket: Socket = connect(port, "127.0.0.1");
  let holds = 0;
  const hold: Line["hold"] = () => {
    holds += 1;
    socket.pause();
    return () => {
      holds -= 1;
      if (holds === 0) socket.resume();
    };
  };
  const feed = openArchiveFeed({ hold });
  feed.put(Buffer.alloc(2 << 20));
  expect(holds).toBe(1);
  feed.end();
  let bytes = 0;
  for await (const chunk of feed.content as AsyncIterable<Buffer>) bytes += chunk.length;
  expect({ bytes, holds }).toEqual({ bytes: 2 << 20, holds: 0 });
  const rest = (await Array.fromAsync(socket as AsyncIterable<Buffer>)).join("");
  expect(rest).toBe("what comes next");
  server.close();
});
