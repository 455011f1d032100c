import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { ownAsFolder, syncFolder } from "./durable-file.ts";

/** A file that only grows, a line at a time; a line that was not written whole is cut off. */
export interface AppendFile extends AsyncDisposable {
  /** Length of what is durable, in bytes. */
  readonly sizeBytes: number;
  /** Appends and makes durable; after an error the file is as before. Not to be called again before it has ended. */
  append(text: string): Promise<void>;
}

/** Opens or makes the file (0600) and gives its whole lines; what lies behind the last line end was never durable. */
export async function openAppendFile(path: string): Promise<{ file: AppendFile; lines: string[] }> {
  const { handle, isNew } = await openOrMake(path);
  try {
    const content = isNew ? Buffer.alloc(0) : await handle.readFile();
    const wholeBytes = content.lastIndexOf(0x0a) + 1;
    if (wholeBytes < content.length) await handle.truncate(wholeBytes);
    await handle.sync();
    await syncFolder(dirname(path));
    const lines = content.toString("utf8", 0, wholeBytes).split("\n").slice(0, -1);
    return { file: appendTo(handle, wholeBytes), lines };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openOrMake(path: string): Promise<{ handle: FileHandle; isNew: boolean }> {
  try {
    return { handle: await open(path, "r+"), isNew: false };
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    const handle = await open(path, "wx+", 0o600);
    await ownAsFolder(handle, path);
    return { handle, isNew: true };
  }
}

function appendTo(handle: FileHandle, startBytes: number): AppendFile {
  let sizeBytes = startBytes;
  let isDirty = false;
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    async append(text) {
      // Part of an earlier line that failed half-way must not be continued.
      if (isDirty) await handle.truncate(sizeBytes);
      isDirty = true;
      const bytes = Buffer.from(text);
      for (let offset = 0; offset < bytes.length;) {
        offset += (await handle.write(bytes, offset, bytes.length - offset, sizeBytes + offset)).bytesWritten;
      }
      await handle.datasync();
      sizeBytes += bytes.length;
      isDirty = false;
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}
