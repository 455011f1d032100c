import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { WalGrant } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { replaceFile } from "../../journal/durable-file.ts";
import type { ArchiveIndex } from "./archive-index.ts";
import type { WalExtent } from "./extent.ts";

/** What an index is brought up to date with. */
export interface FindStoredOptions {
  /** Folder of the index. */
  readonly folder: string;
  readonly grant: WalGrant | undefined;
  /** What the repository holds. */
  readonly list: () => Promise<readonly WalExtent[]>;
}

/**
 * Asks the repository what it holds where the index cannot know: it is empty, or of an earlier grant, after which another
 * agent may have stored more. Gives whether it was asked. Fails as `list`.
 */
export async function findStored(index: ArchiveIndex, { folder, grant, list }: FindStoredOptions): Promise<boolean> {
  const path = join(folder, "grant");
  const number = String(grant?.number ?? 0n);
  const isOfGrant = (await readNumber(path)) === number;
  if (index.extents.length > 0 && isOfGrant) return false;
  await index.addFound(await list());
  if (!isOfGrant) await replaceFile(path, number);
  return true;
}

/** Number of the grant that the index is of; 0 where none was noted. */
async function readNumber(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "0";
    throw error;
  }
}
