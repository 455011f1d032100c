import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { OsUser } from "../../../host/os-user.ts";
import { closeAccess } from "../access.ts";
import { linkTablespaces, type Staged } from "../stage-backup.ts";
import { type Marker, stagingIn, writeMarker } from "../staging.ts";
import { type Kept, keptName } from "./find-kept.ts";

/**
 * Makes what an earlier try has unpacked that of this one, whose marker it gets: as it is staged before anything comes into
 * its place. Killed at any step it is either kept still, or removed by a settling.
 */
export async function takeUp(
  kept: Kept,
  { staging, marker, owner }: { staging: string; marker: Marker; owner: OsUser },
): Promise<{ staged: Staged; marker: Marker }> {
  const { marker: before, unpacked } = kept;
  if (kept.staging !== staging) await rename(kept.staging, staging);
  const own = before.tablespaces.map((location) => stagingIn(location, before.operationId));
  const taken: Marker = {
    ...marker,
    alsoStaged: [...new Set([...own, ...(before.alsoStaged ?? [])])],
    madeLocations: [...new Set([...(marker.madeLocations ?? []), ...(before.madeLocations ?? [])])],
  };
  await writeMarker(staging, taken);
  const data = join(staging, keptName);
  await rename(join(staging, "pg_control"), join(data, "global", "pg_control"));
  const places = unpacked.tablespaces.map(({ oid }, index) => ({ oid, location: unpacked.staged[index] ?? "" }));
  await linkTablespaces(data, places, owner);
  await closeAccess(data, owner);
  await rm(join(data, "standby.signal"), { force: true });
  return { staged: { data, tree: { files: unpacked.files, bytes: BigInt(unpacked.bytes) } }, marker: taken };
}
