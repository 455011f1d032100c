import type { FileHandle } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fail } from "@coppice/proto/kit/failure";
import { startThread, type Thread } from "../../pipeline/thread.ts";
import type { CommitRun, SegmentPlace } from "../content/commit-times.ts";
import type { RecordLinks } from "../content/record-links.ts";
import type { PressAnswer, PressTask } from "./press-task.ts";

/**
 * A file that was read once, and is held on the thread that read it until it was digested and compressed, or this is
 * disposed: another file can be read while this one is on its way to a storage that is far.
 */
export interface PressedFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Its first bytes: all of a small file. */
  readonly start: Buffer;
  /** Of a segment, when transactions in it ended. */
  readonly commits: readonly CommitRun[];
  /** Of a segment, what ties it to those beside it. */
  readonly links: RecordLinks;
  /** SHA-256 of its bytes, lower-case hexadecimal: of 16 MiB more work than all the rest, where no instruction helps. */
  sha256(): Promise<string>;
  /** Its bytes compressed by zstd, with a checksum of the content; once, and last where its digest is wanted, too. */
  compress(level: number): Promise<Uint8Array>;
}

/** What is to be read of a file. */
export interface WantedFile {
  /** At most so many bytes. */
  readonly expectedBytes: number;
  /** Which segment it is; undefined of what is none. */
  readonly segment?: SegmentPlace | undefined;
}

/** Reads, compresses and digests files on threads of its own, which reuse their memory: 40 ms of a core for 16 MiB, 50 more for a digest. */
export interface Press extends AsyncDisposable {
  /** Reads a file from its beginning. It stays open until the result is disposed. */
  read(file: FileHandle, wanted: WantedFile): Promise<PressedFile>;
}

const mostThreads = 4;
const place = { name: "press-worker", importer: import.meta.url, what: "a thread that reads files" };

/** Opens one; a thread is started when all others are busy. Once it is disposed reading fails with WAL_NOT_READY. */
export function openPress(): Press {
  const threads = new Set<PressThread>();
  const idle: PressThread[] = [];
  const waiting: (() => void)[] = [];
  const most = Math.min(mostThreads, availableParallelism());
  let isClosed = false;

  async function take(): Promise<PressThread> {
    for (;;) {
      // A thread that is started now nobody would end.
      if (isClosed) fail("WAL_NOT_READY", "archiving comes to its end here: offer it again");
      const free = idle.pop();
      if (free) return free;
      if (threads.size < most) {
        const thread: PressThread = startThread(place, () => threads.delete(thread));
        threads.add(thread);
        return thread;
      }
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  }
  function release(thread: PressThread): void {
    if (threads.has(thread)) idle.push(thread);
    waiting.shift()?.();
  }

  return {
    async read(file, { expectedBytes, segment }) {
      const thread = await take();
      try {
        const answer = await askPress(thread, { is: "read", fd: file.fd, expectedBytes, segment });
        if (answer.is !== "read") throw new Error("a thread that reads files answered something else");
        const { sizeBytes, start, commits, links } = answer;
        // It takes one task after the other.
        let last: Promise<unknown> = Promise.resolve();
        const ask = (task: PressTask) => {
          const asking = last.then(() => askPress(thread, task));
          last = asking.catch(() => {});
          return asking;
        };
        let digested: Promise<PressAnswer> | undefined;
        let isHeld = true;
        const letGo = () => {
          if (isHeld) release(thread);
          isHeld = false;
        };
        return {
          sizeBytes,
          commits,
          links,
          start: Buffer.from(start.buffer, start.byteOffset, start.byteLength),
          async sha256() {
            const answered = await (digested ??= ask({ is: "digest" }));
            if (answered.is !== "digested") throw new Error("a thread that digests answered something else");
            return answered.sha256;
          },
          async compress(level) {
            if (!isHeld) throw new Error("a file that was let go is compressed once more");
            const compressed = await ask({ is: "compress", level });
            if (compressed.is !== "compressed") throw new Error("a thread that compresses answered something else");
            // Its thread may have been asked for the digest meanwhile.
            if (digested) void digested.then(letGo, () => {});
            return compressed.bytes;
          },
          async [Symbol.asyncDispose]() {
            await last;
            letGo();
          },
        };
      } catch (error) {
        release(thread);
        throw error;
      }
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      for (const wake of waiting.splice(0)) wake();
      await Promise.all([...threads].map((thread) => thread.end()));
    },
  };
}

type PressThread = Thread<PressTask, PressAnswer>;

async function askPress(thread: PressThread, task: PressTask): Promise<PressAnswer> {
  const answer = await thread.ask(task);
  if (answer.is === "failed") throw new Error(answer.message);
  return answer;
}
