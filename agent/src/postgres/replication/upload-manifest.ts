import type { ResolvedEndpoint } from "../endpoint.ts";
import { answered, type Line } from "./line.ts";

/** Large enough that messages cost nothing, small enough to be split between the socket's writes. */
const messageBytes = 256 * 1024;

/**
 * Sends the manifest that an incremental backup builds on, for BASE_BACKUP on the same connection. Gives the server's
 * error, if it had one. Fails with CLUSTER_UNREACHABLE when it takes nothing of it, or says nothing to it, for so long.
 */
export async function runUploadManifest(
  line: Line,
  endpoint: ResolvedEndpoint,
  { source, silenceMs }: { readonly source: AsyncIterable<Uint8Array>; readonly silenceMs: number },
) {
  const soon = <T>(wait: Promise<T>) => answered(wait, { line, endpoint, answerMs: silenceMs });
  const ready = Promise.withResolvers<boolean>();
  const ended = line.run("UPLOAD_MANIFEST", { onCopyIn: () => ready.resolve(true) });
  ended.then(() => ready.resolve(false), ready.reject);
  if (await soon(ready.promise)) {
    try {
      for await (const chunk of source)
        for (let at = 0; at < chunk.length; at += messageBytes)
          if (!line.send("d", Buffer.from(chunk.subarray(at, at + messageBytes)))) await soon(line.drained());
    } catch (error) {
      // A manifest that cannot be read is no reason to lose the connection.
      line.send("f", Buffer.from("the manifest could not be read\0"));
      await soon(ended).catch(() => {});
      throw error;
    }
    line.send("c", Buffer.alloc(0));
  }
  return (await soon(ended)).error;
}
