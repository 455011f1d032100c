import { isFailure } from "@coppice/proto/kit/failure";
import type { WalPlace } from "../../repository/layout.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import { storedDigest } from "../store/stored-digest.ts";
import type { HeldStorage } from "../push/held-storage.ts";
import { openOffered } from "../push/offered-file.ts";

/** What a file of the server is compared with. */
export interface ArchivedFile {
  readonly storage: HeldStorage;
  readonly index: ArchiveIndex;
  readonly place: WalPlace;
  readonly signal: AbortSignal;
}

/**
 * Whether the file at a path, of the owner `uid`, has the very bytes that are archived under the name; false where it is
 * gone, or that cannot be told. Fails as the storage does.
 */
export async function hasArchived(
  { path, name, uid }: { readonly path: string; readonly name: string; readonly uid: number },
  { storage, index, place, signal }: ArchivedFile,
): Promise<boolean> {
  try {
    // Who asks holds the thread that the segment behind it is read on.
    await using file = await openOffered(path, { uid, press: undefined, segment: undefined });
    const archived =
      index.digestOf(name) ?? (await storage.use((opened) => storedDigest(opened, { place, name, signal })));
    return archived === (await file.sha256());
  } catch (error) {
    const cannotTell = ["WAL_FILE_UNREADABLE", "OBJECT_MISSING", "IDENTITY_MISSING", "REPOSITORY_NOT_READABLE"];
    if (isFailure(error) && cannotTell.includes(error.reason)) return false;
    throw error;
  }
}
