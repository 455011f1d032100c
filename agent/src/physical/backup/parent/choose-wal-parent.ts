import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { type ParentRequest, readParent, type SeenServer } from "./read-parent.ts";

/** The backup that a WAL increment goes on from. */
export interface WalParent {
  readonly backupId: string;
  readonly folder: string;
  /** Where it ends: the WAL from there on is the increment's. */
  readonly stopLsn: bigint;
}

/** That parent, or why a full backup is taken instead, for people. */
export type ChosenWalParent =
  | { readonly walParent: WalParent }
  | { readonly walParent?: undefined; readonly fullReason: string };

/** Looks at the parent of a WAL increment, which may be of any kind. Fails only as the storage does. */
export async function chooseWalParent(request: ParentRequest | undefined, seen: SeenServer): Promise<ChosenWalParent> {
  if (!request) return { fullReason: "the repository that it goes into has no backup that it could build on" };
  const parent = await readParent(request, seen);
  if (!parent.manifest) return { fullReason: parent.problem };
  const { address } = request;
  const { content } = parent;
  if (content.walSegmentBytes !== seen.server.walSegmentBytes)
    return { fullReason: `segments of WAL had another size when its parent ${address.backupId} was taken` };
  return {
    walParent: { backupId: address.backupId, folder: address.folder, stopLsn: parseLsn(content.stopLsn) },
  };
}
