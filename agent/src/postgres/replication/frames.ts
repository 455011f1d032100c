/** What a reader of frames calls, in the order of the messages. */
export interface FrameSink {
  /** A whole message that is not CopyData. The body is a part of what was fed. */
  onMessage(type: string, body: Buffer): void;
  /**
   * What has come of a CopyData message's content, not copied: a part of what was fed. The first piece of a message holds at least
   * `copyHeadBytes`, or the whole of it.
   */
  onCopyPiece(piece: Buffer, isFirst: boolean, isLast: boolean): void;
}

/** Enough for the longest head inside CopyData, that of XLogData. */
export const copyHeadBytes = 25;
const frameHeadBytes = 5;
/** Rows and errors of the replication protocol are small; a larger length means that the bytes are something else. */
const largestMessage = 4 * 1024 * 1024;
const copyData = 0x64;

/**
 * Cuts what a server sends into messages. Content of CopyData is handed on as it comes and is never gathered or copied:
 * the parser of `pg` would copy each byte once, and reuses the memory that it has handed out. Gives whether all of the chunk
 * was handed on as content.
 */
export function createFrameReader(sink: FrameSink): (chunk: Buffer) => boolean {
  let kept: Buffer | undefined;
  let copyLeft = 0;

  return (chunk) => {
    const data = kept ? Buffer.concat([kept, chunk]) : chunk;
    kept = undefined;
    let offset = 0;
    let isContent = true;
    while (offset < data.length) {
      if (copyLeft > 0) {
        const piece = data.subarray(offset, offset + copyLeft);
        copyLeft -= piece.length;
        offset += piece.length;
        sink.onCopyPiece(piece, false, copyLeft === 0);
        continue;
      }
      if (data.length - offset < frameHeadBytes) break;
      const type = data.readUInt8(offset);
      const length = data.readUInt32BE(offset + 1) - 4;
      const start = offset + frameHeadBytes;
      if (length < 0 || (type !== copyData && length > largestMessage))
        throw new Error("the server sent what is no message of its protocol");
      const there = Math.min(length, data.length - start);
      if (there < (type === copyData ? Math.min(length, copyHeadBytes) : length)) break;
      offset = start + there;
      if (type === copyData) {
        copyLeft = length - there;
        sink.onCopyPiece(data.subarray(start, offset), true, copyLeft === 0);
      } else {
        isContent = false;
        sink.onMessage(String.fromCharCode(type), data.subarray(start, offset));
      }
    }
    if (offset < data.length) kept = data.subarray(offset);
    return isContent && !kept;
  };
}
