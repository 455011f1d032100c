import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ownAsParent, syncFolder } from "../../../journal/durable-file.ts";

/** The end of a chain: the newest backup of a cluster in a repository that incrementals can be taken from. */
export interface ChainEnd {
  readonly clusterId: string;
  readonly repositoryId: string;
  readonly backupId: string;
}

/**
 * A clear backup_manifest on its way into the folder in which this host keeps them, so that an incremental can be taken
 * where what is stored cannot be read back: because it is encrypted, and the identity is elsewhere. Trouble with it is no
 * trouble of the backup: it is said, and the manifest is not kept.
 */
export interface Keeping extends AsyncDisposable {
  /** Never fails. */
  write(chunk: Uint8Array): Promise<void>;
  /** Puts it in the place of that of the chain's former end; to be called when the backup is committed. Never fails. */
  keep(): Promise<void>;
}

const suffix = ".backup_manifest";
const newSuffix = ".new";

const asName = (id: string) => id.replaceAll(/[^0-9A-Za-z_-]/g, "_");

function chainPrefix({ clusterId, repositoryId }: ChainEnd): string {
  return `${asName(clusterId)}.${asName(repositoryId)}.`;
}

function pathOf(folder: string, end: ChainEnd): string {
  return join(folder, `${chainPrefix(end)}${asName(end.backupId)}${suffix}`);
}

/** Begins to keep a manifest; the file is the agent's alone (0600). */
export function openKeeping(folder: string, end: ChainEnd, log: (line: string) => void): Keeping {
  const path = pathOf(folder, end);
  const temporary = path + newSuffix;
  let file: FileHandle | undefined;
  let isBroken = false;
  const attempt = async (work: () => Promise<void>) => {
    if (isBroken) return;
    try {
      await work();
    } catch (error) {
      isBroken = true;
      const why = error instanceof Error ? error.message : String(error);
      log(`warning: the backup_manifest is not kept on this host, for incrementals to come: ${why}`);
    }
  };
  return {
    write: (chunk) =>
      attempt(async () => {
        if (!file) {
          const made = await mkdir(folder, { recursive: true, mode: 0o700 });
          if (made !== undefined) await ownAsParent(folder);
          await rm(temporary, { force: true });
          file = await open(temporary, "wx", 0o600);
        }
        await file.writeFile(chunk);
      }),
    keep: () =>
      attempt(async () => {
        if (!file) return;
        await file.sync();
        await file.close();
        file = undefined;
        await rename(temporary, path);
        await syncFolder(dirname(path));
        const former = (await readdir(folder)).filter(
          (name) => name.startsWith(chainPrefix(end)) && name !== basename(path),
        );
        for (const name of former) await rm(join(folder, name), { force: true });
      }),
    async [Symbol.asyncDispose]() {
      await file?.close();
      await rm(temporary, { force: true });
    },
  };
}

/** The manifest of a backup that this host keeps: its path, or that there is none, or another one than was stored. */
export async function findKept(
  folder: string,
  end: ChainEnd,
  sha256: string,
): Promise<{ readonly path: string } | { readonly path?: undefined; readonly is: "missing" | "altered" }> {
  const path = pathOf(folder, end);
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return { is: "missing" };
    throw error;
  }
  return hash.digest("hex") === sha256 ? { path } : { is: "altered" };
}
