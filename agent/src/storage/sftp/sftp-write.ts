import { linkSignals, raceSignal } from "@coppice/proto/kit/race";
import { writeAt } from "./sftp-requests.ts";
import type { SftpSession } from "./sftp-session.ts";

/** What OpenSSH takes in one request, and how many of them are on their way at once: about 4 MiB for each put. */
const pieceBytes = 255 * 1024;
const piecesInFlight = 16;

/** Writes all chunks to an open file, many requests at a time, and gives their bytes. */
export async function writeChunks(
  session: SftpSession,
  handle: Buffer,
  chunks: AsyncIterator<Uint8Array>,
  signal: AbortSignal,
): Promise<number> {
  // A refusal has to be noticed also while the source has nothing to give. By a signal: a promise that lives as long as
  // the put would keep every chunk that it was raced with.
  using reading = linkSignals(signal);
  const inFlight: Promise<void>[] = [];
  let offset = 0;
  const write = async (bytes: Buffer): Promise<void> => {
    if (inFlight.length >= piecesInFlight) await inFlight.shift();
    const writing = writeAt(session, handle, bytes, offset, signal);
    writing.catch((error: unknown) => reading.abort(error));
    inFlight.push(writing);
    offset += bytes.length;
  };

  let gathered = Buffer.alloc(0);
  let filled = 0;
  for (;;) {
    const next = await raceSignal(chunks.next(), reading.signal);
    if (next.done) break;
    let rest = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    while (rest.length > 0) {
      if (filled === 0 && rest.length >= pieceBytes) {
        await write(rest.subarray(0, pieceBytes));
        rest = rest.subarray(pieceBytes);
        continue;
      }
      if (filled === 0) gathered = Buffer.allocUnsafeSlow(pieceBytes);
      const taken = rest.copy(gathered, filled);
      filled += taken;
      rest = rest.subarray(taken);
      if (filled === pieceBytes) {
        await write(gathered);
        filled = 0;
      }
    }
  }
  if (filled > 0) await write(gathered.subarray(0, filled));
  await Promise.all(inFlight);
  return offset;
}
