/**
 * Frees the memory of a chunk that was copied and that nobody else holds. Left to the garbage collector, which sees
 * little of what lies outside its heap, chunks of a fast stream pile up by tens of megabytes. A view of a part of its
 * memory is left alone: there may be others.
 */
export function freeChunk({ buffer, byteLength }: Uint8Array): void {
  if (byteLength > 0 && buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
