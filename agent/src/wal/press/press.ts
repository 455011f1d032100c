import type { FileHandle } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { CommitRun, SegmentPlace } from "../content/commit-times.ts";
import type { PressAnswer, PressTask } from "./press-task.ts";

/** A file that was read once, and is held on the thread that read it until this is disposed. */
export interface PressedFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** SHA-256 of its bytes, lower-case hexadecimal. */
  readonly sha256: string;
  /** Its first bytes: all of a small file. */
  readonly start: Buffer;
  /** Of a segment, when transactions in it ended. */
  readonly commits: readonly CommitRun[];
  /** Its bytes compressed by zstd, with a checksum of the content. */
  compress(level: number): Promise<Uint8Array>;
}

/** What is to be read of a file. */
export interface WantedFile {
  /** At most so many bytes. */
  readonly expectedBytes: number;
  /** Which segment it is; undefined of what is none. */
  readonly segment?: SegmentPlace | undefined;
}

/** Reads, digests and compresses files on threads of its own, which reuse their memory: 100 ms of a core for 16 MiB. */
export interface Press extends AsyncDisposable {
  /** Reads a file from its beginning. It stays open until the result is disposed. */
  read(file: FileHandle, wanted: WantedFile): Promise<PressedFile>;
}

const mostThreads = 4;

/** Opens one; a thread is started when all others are busy. */
export function openPress(): Press {
  const threads = new Set<Thread>();
  const idle: Thread[] = [];
  const waiting: (() => void)[] = [];
  const most = Math.min(mostThreads, availableParallelism());

  async function take(): Promise<Thread> {
    for (;;) {
      const free = idle.pop();
      if (free) return free;
      if (threads.size < most) {
        const thread = startThread(() => threads.delete(thread));
        threads.add(thread);
        return thread;
      }
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  }
  function release(thread: Thread): void {
    if (threads.has(thread)) idle.push(thread);
    waiting.shift()?.();
  }

  return {
    async read(file, { expectedBytes, segment }) {
      const thread = await take();
      try {
        const answer = await thread.ask({ is: "read", fd: file.fd, expectedBytes, segment });
        if (answer.is !== "read") throw new Error("a thread that reads files answered something else");
        const { sizeBytes, sha256, start, commits } = answer;
        let last: Promise<unknown> = Promise.resolve();
        return {
          sizeBytes,
          sha256,
          commits,
          start: Buffer.from(start.buffer, start.byteOffset, start.byteLength),
          async compress(level) {
            const compressing = thread.ask({ is: "compress", level });
            last = compressing.catch(() => {});
            const compressed = await compressing;
            if (compressed.is !== "compressed") throw new Error("a thread that compresses answered something else");
            return compressed.bytes;
          },
          async [Symbol.asyncDispose]() {
            await last;
            release(thread);
          },
        };
      } catch (error) {
        release(thread);
        throw error;
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...threads].map((thread) => thread.end()));
    },
  };
}

interface Thread {
  /** One question at a time. */
  ask(task: PressTask): Promise<PressAnswer>;
  end(): Promise<void>;
}

function startThread(onExit: () => void): Thread {
  // The very file in the sources, and a bundle's own.
  const name = import.meta.url.endsWith(".ts") ? "./press-worker.ts" : "./press-worker.js";
  const worker = new Worker(new URL(name, import.meta.url));
  // Nothing waits for a thread but who asks it, and a process that comes to its end by an error must end.
  worker.unref();
  let asked: PromiseWithResolvers<PressAnswer> | undefined;
  let failure: Error | undefined;
  worker.on("message", (answer: PressAnswer) => asked?.resolve(answer));
  const fail = (error: Error) => {
    failure ??= error;
    asked?.reject(failure);
    onExit();
  };
  worker.on("error", fail);
  worker.on("exit", () => fail(new Error("a thread that reads files has ended")));
  return {
    async ask(task) {
      if (failure) throw failure;
      asked = Promise.withResolvers<PressAnswer>();
      worker.postMessage(task, []);
      const answer = await asked.promise;
      if (answer.is === "failed") throw new Error(answer.message);
      return answer;
    },
    async end() {
      await worker.terminate();
    },
  };
}
