import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { constants, zstdCompressSync } from "node:zlib";
import { readCommits } from "../content/commit-times.ts";
import { openLinkReader } from "../content/record-links.ts";
import type { PressAnswer, PressTask } from "./press-task.ts";

// Runs on a thread of its own, one file after the other, and keeps the memory that it read the last one into.
const mostStartBytes = 64 << 10;
let held = Buffer.alloc(0);
let content = held;

function read({ fd, expectedBytes, segment }: PressTask & { is: "read" }): PressAnswer {
  if (held.length < expectedBytes) held = Buffer.allocUnsafeSlow(expectedBytes);
  let sizeBytes = 0;
  for (let bytesRead = 1; bytesRead > 0 && sizeBytes < expectedBytes; sizeBytes += bytesRead)
    bytesRead = readSync(fd, held, sizeBytes, expectedBytes - sizeBytes, sizeBytes);
  content = held.subarray(0, sizeBytes);
  const reading = readCommits(segment);
  reading.take(content, 0);
  const links = openLinkReader(segment?.startLsn ?? 0n);
  links.take(content);
  const start = new Uint8Array(content.subarray(0, mostStartBytes));
  return { is: "read", sizeBytes, start, commits: reading.commits(), links: links.links() };
}

function digest(): PressAnswer {
  return { is: "digested", sha256: createHash("sha256").update(content).digest("hex") };
}

function compress(level: number): PressAnswer {
  const { ZSTD_c_compressionLevel, ZSTD_c_checksumFlag } = constants;
  const params = { [ZSTD_c_compressionLevel]: level, [ZSTD_c_checksumFlag]: 1 };
  // Room for what does not compress at all, so that it is done in one step into one piece.
  const chunkSize = content.length + (content.length >> 8) + (64 << 10);
  const { buffer, byteOffset, byteLength } = zstdCompressSync(content, { chunkSize, params });
  const bytes = new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength));
  // The garbage collector sees little of what lies outside its heap.
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
  return { is: "compressed", bytes };
}

function answerTo(task: PressTask): PressAnswer {
  if (task.is === "read") return read(task);
  return task.is === "digest" ? digest() : compress(task.level);
}

parentPort?.on("message", (task: PressTask) => {
  try {
    const answer = answerTo(task);
    parentPort?.postMessage(answer, answer.is === "compressed" ? [answer.bytes.buffer as ArrayBuffer] : []);
  } catch (error) {
    parentPort?.postMessage({ is: "failed", message: String(error) } satisfies PressAnswer, []);
  }
});
