import { createReadStream } from "node:fs";
import { access, constants, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { Program } from "../../host/program.ts";
import { decodePrograms } from "../../pipeline/stages.ts";
import { type ArchiveContents, parseContents, readContents } from "../archive/contents.ts";
import { detectFormat, parseScriptHead } from "./detect.ts";
import { openDecoded, type Reading, type RestoreSource } from "./source.ts";

const headBytes = 1 << 16;
/** Encrypted, compressed, and once more by somebody's script. */
const mostLayers = 4;

function unreadable(path: string, why: string, cause?: unknown): never {
  return fail("FILE_UNREADABLE", `the file ${path} cannot be restored: ${why}`, { cause });
}

/** What the agent's own user may not read is told before anything else is done. */
async function requireReadable(path: string): Promise<{ isFolder: boolean; sizeBytes: bigint }> {
  try {
    await access(path, constants.R_OK);
    const { size } = await stat(path, { bigint: true });
    const info = await stat(path);
    if (!info.isFile() && !info.isDirectory()) unreadable(path, "it is no file");
    return { isFolder: info.isDirectory(), sizeBytes: size };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
    if (code === undefined || isFailure(error)) throw error;
    return unreadable(path, code === "ENOENT" ? "there is none" : `the agent may not read it: ${code}`, error);
  }
}

/** The bytes of a file, which fail as the rest of a restore does and not as Node's. */
function openFile(path: string, { signal, onBytes }: Reading): Readable {
  async function* chunks() {
    try {
      for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) {
        onBytes?.((chunk as Buffer).length);
        yield chunk as Buffer;
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
      unreadable(path, `reading it failed: ${code}`, error);
    }
  }
  return Readable.from(chunks(), { objectMode: false, highWaterMark: 1 << 20 });
}

async function readHead(output: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of output) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= headBytes) break;
  }
  return Buffer.concat(chunks);
}

async function openFolder(path: string): Promise<RestoreSource> {
  const bytes = await readFile(join(path, "toc.dat")).catch((cause: unknown) =>
    unreadable(path, "it is a folder without a readable toc.dat, so none of pg_dump -Fd", cause),
  );
  const contents = parseContents(bytes) ?? unreadable(path, "its toc.dat ends too early");
  let size = 0n;
  for (const name of await readdir(path)) size += (await stat(join(path, name), { bigint: true })).size;
  return {
    title: `the folder ${path}`,
    format: "directory",
    contents,
    isCluster: false,
    dumped: undefined,
    leftOut: [],
    serverMajor: contents.serverMajor,
    toolMajor: contents.toolMajor,
    storedBytes: size,
    folder: path,
    open: () => fail("INTERNAL", "a folder has no bytes of its own"),
  };
}

async function readToc(output: AsyncIterable<Buffer>, isTar: boolean): Promise<ArchiveContents> {
  if (!isTar) return await readContents(output);
  async function* member() {
    let skipped = 0;
    for await (const chunk of output) {
      const skip = Math.min(512 - skipped, chunk.length);
      skipped += skip;
      yield chunk.subarray(skip);
    }
  }
  return await readContents(member());
}

/**
 * A dump on this host that others made: SQL of pg_dump or pg_dumpall, or an archive of pg_dump -Fc, -Ft or -Fd, by
 * itself or encoded by zstd, gzip or age. What it is is seen in its bytes. Fails with FILE_UNREADABLE, IDENTITY_MISSING,
 * IDENTITY_WRONG, ARCHIVE_UNREADABLE, FEATURE_UNKNOWN, or PROGRAM_FAILED where it does not decode.
 */
export async function openFileSource({
  path,
  identities,
  signal,
}: {
  path: string;
  identities: string | undefined;
  signal: AbortSignal;
}): Promise<RestoreSource> {
  const { isFolder, sizeBytes } = await requireReadable(path);
  if (isFolder) return await openFolder(path);
  const programs: Program[] = [];
  const decode = () => openDecoded({ input: openFile(path, { signal }), programs }, signal);
  for (let layer = 0; layer <= mostLayers; layer++) {
    await using decoded = await decode();
    const head = await readHead(decoded.output).catch((error: unknown) => {
      if (isFailure(error, "PROGRAM_FAILED") && error.metadata.program === "age")
        return fail("IDENTITY_WRONG", `the file ${path} is encrypted to other recipients, or damaged`, {
          cause: error,
        });
      throw error;
    });
    const found = detectFormat(head);
    if (typeof found === "object") unreadable(path, `it is ${found.unknown}`);
    if (found === "age" || found === "zstd" || found === "gzip") {
      const codec = found === "age" ? "none" : found;
      programs.push(...decodePrograms({ codec, encrypted: found === "age" }, identities));
      continue;
    }
    const script = found === "plain" ? parseScriptHead(head.toString("latin1")) : undefined;
    await using whole = await decode();
    const contents = script ? undefined : await readToc(whole.output, found === "tar");
    return {
      title: `the file ${path}`,
      format: found,
      contents,
      isCluster: script?.isCluster ?? false,
      dumped: undefined,
      leftOut: [],
      serverMajor: script?.serverMajor ?? contents?.serverMajor ?? 0,
      toolMajor: script?.toolMajor ?? contents?.toolMajor ?? 0,
      storedBytes: sizeBytes,
      folder: undefined,
      open: (reading) => ({ input: openFile(path, reading), programs }),
    };
  }
  return unreadable(path, `it is encoded more than ${mostLayers} times`);
}
