import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { ignoreMissing } from "../directory/ignore-missing.ts";

/** Below that a file is left to the sync of the whole tree, where one commit of the filesystem serves many. */
const leastBytes = 8 << 20;
/** So much more of a file has to be there before it is synced again. */
const everyBytes = 32 << 20;
const pauseMs = 50;

/**
 * Has the large files that are unpacked into a folder written to the disk meanwhile, where it would otherwise stand idle
 * until all are there. It saves time and promises nothing: the whole tree is still to be synced. `names` says which file
 * is begun, a line each; resolves when it ends, and fails as it does, or when a file cannot be written out, which a
 * system tells only once.
 */
export async function syncAlong(names: Readable, folder: string): Promise<void> {
  const begun: string[] = [];
  const state = { isOver: false };
  const isWhole = () => state.isOver || begun.length > 0;
  const openBegun = async (name: string): Promise<FileHandle | undefined> => {
    for (;;) {
      // It is said a moment before it is there.
      const isLast = isWhole();
      // tar writes unusual names in a way of its own.
      const file = await open(join(folder, name)).catch(ignoreMissing);
      if (file || isLast) return file;
      await delay(pauseMs);
    }
  };
  const follow = async (name: string) => {
    await using file = await openBegun(name);
    if (!file) return;
    for (let synced = 0; !state.isOver; await delay(pauseMs)) {
      const isLast = isWhole();
      const { size } = await file.stat();
      const more = size - synced;
      if (more >= everyBytes || (isLast && more > 0 && size >= leastBytes)) {
        await file.datasync();
        synced = size;
      }
      if (isLast) return;
    }
  };
  const work = async () => {
    while (!state.isOver) {
      const name = begun.shift();
      if (name === undefined) await delay(pauseMs);
      else if (!name.endsWith("/")) await follow(name);
    }
  };
  const read = async () => {
    try {
      let rest = "";
      for await (const text of names.setEncoding("utf8") as AsyncIterable<string>) {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        begun.push(...lines);
      }
    } finally {
      state.isOver = true;
    }
  };
  await Promise.all([read(), work()]);
}
