import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "./storage.ts";

/** That nothing was seen, because this host may put and may not look. */
export const unseen = Symbol("unseen");

/**
 * What a look at a storage gives, or `unseen` where the host may not read there and need not: where the storage itself
 * compares what it is given before it says that it holds it. Fails as the look does for any other reason, and for this
 * one where nothing but a look can tell.
 */
export async function lookIfAllowed<T>(
  { capabilities }: Pick<Storage, "capabilities">,
  look: () => Promise<T>,
): Promise<T | typeof unseen> {
  try {
    return await look();
  } catch (error) {
    if (capabilities.comparesPuts && isFailure(error, "REPOSITORY_NOT_READABLE")) return unseen;
    throw error;
  }
}

/** What the log of a backup says where that was so. */
export const unseenWarning = (storage: Pick<Storage, "name">) =>
  `warning: this host may not read in ${storage.name}: what it stores counts by the server's own word, which compares each object with the digest that came with it; verify it on a host that may read`;
