import { lstat, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { toJsonString } from "@bufbuild/protobuf";
import { type RecoveryTarget, RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { quoteShell } from "../../../repository/recipe-text.ts";
import type { Chain } from "../chain.ts";
import type { PlacedTablespace } from "../directory/see-directory.ts";
import { findStagings, type Marker, type UnpackedBefore } from "../staging.ts";
import { ignoreMissing } from "../directory/ignore-missing.ts";

/** What a restore that failed has unpacked and left for another try. */
export interface Kept {
  readonly staging: string;
  readonly marker: Marker;
  readonly unpacked: UnpackedBefore;
}

/** Name of the data directory in the staging folder of what is kept; it is without pg_control, so that nobody starts it. */
export const keptName = "kept";

/** What a restore is made of and recovers to, which has to be the same for another try. */
export function tellUnpacked(
  { links }: Chain,
  target: RecoveryTarget,
  tablespaces: readonly PlacedTablespace[],
): Pick<UnpackedBefore, "chain" | "target" | "tablespaces"> {
  return {
    chain: links.map(({ manifest }) => manifest.backupId),
    target: toJsonString(RecoveryTargetSchema, target),
    tablespaces,
  };
}

/** What is kept for a data directory on this host, of files that belong to one of those users. */
export async function findKept(dataDirectory: string, uids: readonly number[]): Promise<Kept[]> {
  const found: Kept[] = [];
  for (const { staging, marker } of await findStagings(dataDirectory, uids)) {
    if (marker.state !== "kept" || !marker.unpacked) continue;
    const kept: Kept = { staging, marker, unpacked: marker.unpacked };
    const areThere = await Promise.all(foldersOf(kept).map(isFolder));
    if (areThere.every(Boolean)) found.push(kept);
  }
  return found;
}

async function isFolder(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing))?.isDirectory() ?? false;
}

/**
 * Whether a restore of that can go on with what is kept: it is of the same backups and places, and no WAL was replayed in
 * it yet, or was on the way to the same target.
 */
export async function isOf(
  { staging, unpacked }: Kept,
  wanted: Pick<UnpackedBefore, "chain" | "target" | "tablespaces">,
): Promise<boolean> {
  const places = ({ chain, tablespaces }: typeof wanted) =>
    JSON.stringify([chain, tablespaces.map(({ oid, location }) => [oid, location])]);
  if (places(unpacked) !== places(wanted)) return false;
  if (unpacked.target === wanted.target) return true;
  // A server takes it away before it replays anything.
  return (await stat(join(staging, keptName, "backup_label")).catch(ignoreMissing)) !== undefined;
}

/** The folders of what is kept: the data directory's, and those of its tablespaces. */
export function foldersOf({ staging, unpacked: { staged } }: Pick<Kept, "staging" | "unpacked">): string[] {
  return [join(staging, keptName), ...staged];
}

/** What is kept, and how to be rid of it, for people. */
export function describeKept({ staging, unpacked: { staged } }: Pick<Kept, "staging" | "unpacked">): string {
  const folders = [staging, ...staged.map((folder) => dirname(folder)).filter((folder) => !folder.startsWith(staging))];
  return `what was unpacked, in ${staging}: the same restore again goes on with it; when it is not wanted: rm -r ${[...new Set(folders)].map(quoteShell).join(" ")}`;
}
