import { chown, open, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { isFailure } from "@coppice/proto/kit/failure";
import { syncFolder } from "../../../journal/durable-file.ts";
import { walHistoryPrefix, type WalPlace, walPrefix } from "../../../repository/layout.ts";
import { readArchived } from "../../backup/wal/read-archived.ts";
import type { ChainLink } from "../chain.ts";
import { unpackFile, type Unpacking } from "./unpack.ts";
import { ignoreMissing } from "../directory/ignore-missing.ts";

const unreadable = ["CONTENT_UNREADABLE", "IDENTITY_MISSING", "IDENTITY_WRONG"] as const;

/**
 * Puts into pg_wal which timelines of the backup's server are archived beside it, where nobody will hand them out: a server
 * ends its recovery on the first number of which it finds none, and what it wrote on one that is taken nobody could
 * archive. One that cannot be read is a warning. Fails as the storage does, and with OBJECT_MISSING.
 */
export async function unpackHistories(
  link: ChainLink,
  { data, unpacking, warnings }: { readonly data: string; readonly unpacking: Unpacking; readonly warnings: string[] },
): Promise<void> {
  const { clusterId, systemIdentifier } = link.manifest;
  const { user, signal } = unpacking;
  const place: WalPlace = { clusterId, systemIdentifier };
  const folder = join(data, "pg_wal");
  for await (const { key } of link.storage.list(walHistoryPrefix(place), signal)) {
    const name = basename(key);
    const file = join(folder, name);
    if (await isThere(file)) continue;
    try {
      const stream = await readArchived(link.storage, { place, name, signal }, () => {});
      if (!stream) continue;
      // Which is little, and no part of the backup.
      const uncounted = { ...unpacking, onBytes: () => {} };
      await unpackFile({ ...link, prefix: walPrefix(place) }, { stream, file, what: name }, uncounted);
    } catch (error) {
      if (!unreadable.some((reason) => isFailure(error, reason))) throw error;
      await rm(file, { force: true });
      warnings.push(
        `${name} in the archive cannot be read: the server may end its recovery on a timeline that is taken`,
      );
      continue;
    }
    if (process.geteuid?.() === 0) await chown(file, user.uid, user.gid);
    await using written = await open(file, "r");
    await written.sync();
  }
  await syncFolder(folder);
}

async function isThere(file: string): Promise<boolean> {
  return (await stat(file).catch(ignoreMissing)) !== undefined;
}
