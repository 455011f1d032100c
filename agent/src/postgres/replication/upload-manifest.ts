import type { Line } from "./line.ts";

/** Large enough that messages cost nothing, small enough to be split between the socket's writes. */
const messageBytes = 256 * 1024;

/**
 * Sends the manifest that an incremental backup builds on, for BASE_BACKUP on the same connection. Gives the server's
 * error, if it had one.
 */
export async function runUploadManifest(line: Line, source: AsyncIterable<Uint8Array>) {
  const ready = Promise.withResolvers<boolean>();
  const ended = line.run("UPLOAD_MANIFEST", { onCopyIn: () => ready.resolve(true) });
  ended.then(() => ready.resolve(false), ready.reject);
  if (await ready.promise) {
    try {
      for await (const chunk of source)
        for (let at = 0; at < chunk.length; at += messageBytes)
          if (!line.send("d", Buffer.from(chunk.subarray(at, at + messageBytes)))) await line.drained();
    } catch (error) {
      // A manifest that cannot be read is no reason to lose the connection.
      line.send("f", Buffer.from("the manifest could not be read\0"));
      await ended.catch(() => {});
      throw error;
    }
    line.send("c", Buffer.alloc(0));
  }
  return (await ended).error;
}
