import { connect, createServer, type Socket } from "node:net";
import { createHash } from "node:crypto";
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

test("a reader gets every byte in order, in pieces of its own, however small it was put", async () => {
  const feed = openArchiveFeed({ hold: () => () => {} });
  const reading = Array.fromAsync(feed.content as AsyncIterable<Buffer>);
  const wanted = createHash("sha256");
  const sizes = [1, 0, 65_535, 3 << 20, 17, 1 << 20, 4096];
  for (const [index, size] of sizes.entries()) {
    const piece = Buffer.alloc(size, `piece ${index}`);
    wanted.update(piece);
    feed.put(piece);
    // What was put is free for whatever comes next.
    piece.fill(0);
  }
  feed.end();
  const pieces = await reading;
  const found = pieces.reduce((hash, piece) => hash.update(piece), createHash("sha256"));
  expect(found.digest("hex")).toBe(wanted.digest("hex"));
  expect(pieces.length).toBeLessThan(sizes.length);
});

test("a little that comes is handed on though no more does", async () => {
  const feed = openArchiveFeed({ hold: () => () => {} });
  feed.put(Buffer.from("a little"));
  await once(feed.content, "readable");
  expect(String(feed.content.read())).toBe("a little");
});
