import type { ListedObject, Storage, Unfinished } from "../../storage/storage.ts";
import { manifestKey } from "../layout.ts";

/** What a backup that was never committed has left. */
export interface Leavings {
  /** Whole objects; empty when there is a manifest. */
  readonly objects: readonly ListedObject[];
  /** What unended puts have left. */
  readonly unfinished: readonly Unfinished[];
}

/**
 * Finds what is left below the `backupPrefix` of a backup that must not be running any more: whole objects, unless its
 * manifest is there, and unended puts, only those of the operation when one is named.
 */
export async function findLeavings(
  storage: Storage,
  { prefix, operationId, signal }: { prefix: string; operationId?: string; signal: AbortSignal },
): Promise<Leavings> {
  const isCommitted = (await storage.stat(manifestKey(prefix), signal)) !== undefined;
  const unfinished = await Array.fromAsync(storage.listUnfinished(prefix, signal));
  return {
    objects: isCommitted ? [] : await Array.fromAsync(storage.list(prefix, signal)),
    // Where a storage cannot tell whose it is, the folder does: it is one backup's.
    unfinished: unfinished.filter((one) => (one.operationId ?? operationId) === (operationId ?? one.operationId)),
  };
}

/** Removes leavings and says what was removed, a line each, for people to read. */
export async function removeLeavings(
  storage: Storage,
  { objects, unfinished }: Leavings,
  signal: AbortSignal,
): Promise<string[]> {
  await storage.deleteMany(
    objects.map(({ key }) => key),
    signal,
  );
  await storage.removeUnfinished(unfinished, signal);
  return [
    ...objects.map(({ key, sizeBytes }) => `object ${key} of ${sizeBytes} bytes`),
    ...unfinished.map(
      ({ id, sizeBytes }) => `unfinished ${id}${sizeBytes === undefined ? "" : ` of ${sizeBytes} bytes`}`,
    ),
  ];
}
