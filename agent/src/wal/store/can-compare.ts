import type { Storage } from "../../storage/storage.ts";

/**
 * Whether what lies in a storage is compared by reading it, whoever meets it: then nobody needs a digest of what is stored.
 * What is encrypted cannot be read on every host; a storage that keeps digests may be one that a host can only put into; and
 * one whose puts keep no condition has its names claimed by digests.
 */
export function canCompare({ capabilities }: Pick<Storage, "capabilities">, recipients: readonly string[]): boolean {
  return recipients.length === 0 && capabilities.putIfAbsent && !capabilities.keepsDigests;
}
