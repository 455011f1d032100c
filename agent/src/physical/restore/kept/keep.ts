import { chmod, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../../host/os-user.ts";
import { syncFolder } from "../../../journal/durable-file.ts";
import { entryOf, isWholeInPlace, removeToken } from "../directory/ownership.ts";
import { nameOthers, ownContent } from "../directory/own-content.ts";
import { putFormerBack } from "../directory/take-back.ts";
import { makeOwned, type Marker, stagingIn, type UnpackedBefore, writeMarker } from "../staging.ts";
import { describeKept, keptName } from "./find-kept.ts";
import { restoreAutoConf } from "../settings/configuration.ts";
import { ignoreMissing } from "../directory/ignore-missing.ts";

/** Whether its server is in the middle of its recovery, or was not even started: then another try can go on with it. */
async function mayGoOn(data: string): Promise<boolean> {
  return (await stat(join(data, "recovery.signal")).catch(ignoreMissing)) !== undefined;
}

/** Removes what lies beside those folders in the ones that they are in. */
async function removeOthers(folders: readonly string[], others: readonly string[]): Promise<void> {
  for (const parent of new Set(folders.map((folder) => dirname(folder))))
    for (const name of await readdir(parent))
      if (![...folders, ...others].includes(join(parent, name)))
        await rm(join(parent, name), { recursive: true, force: true });
}

/** Without it no server starts. */
async function takeControlOut(data: string, staging: string): Promise<void> {
  const control = join(data, "global", "pg_control");
  if ((await stat(control).catch(ignoreMissing)) === undefined) return;
  await rename(control, join(staging, "pg_control"));
  await syncFolder(dirname(control));
}

async function leave(staging: string, marker: Marker, unpacked: UnpackedBefore): Promise<string> {
  // Each try writes those of recovery anew: one file alone is left for people to mend, and that is the one which counts.
  await restoreAutoConf(join(staging, keptName));
  await writeMarker(staging, { ...marker, state: "kept", unpacked });
  const { staged } = unpacked;
  const own = [keptName, "pg_control", "restore.json"].map((name) => join(staging, name));
  await removeOthers([join(staging, keptName), ...staged], own);
  return describeKept({ staging, unpacked });
}

/** Keeps what is unpacked and was not put into its place; says where. `data` is the staged data directory. */
export async function keepStaged(
  { staging, data }: { staging: string; data: string },
  marker: Marker,
  unpacked: UnpackedBefore,
): Promise<string> {
  await takeControlOut(data, staging);
  const kept = join(staging, keptName);
  if (data !== kept) await rename(data, kept);
  return await leave(staging, marker, unpacked);
}

/**
 * Takes what came into its place out of it again for another try, and puts back what was there before; its server must
 * not run. Says where it is kept, and what could not be put back; undefined where its recovery has ended, or not all of it
 * is there: that nobody can go on with.
 */
export async function keepPlaced(staging: string, marker: Marker, owner: OsUser): Promise<string[] | undefined> {
  const { dataDirectory, tablespaces, operationId, placement, madeFolder, keptAs, unpacked } = marker;
  if (!unpacked || !(await isWholeInPlace(marker)) || !(await mayGoOn(dataDirectory))) return undefined;
  await takeControlOut(dataDirectory, staging);
  const staged: string[] = [];
  for (const location of tablespaces) {
    const folder = join(stagingIn(location, operationId), keptName);
    await makeOwned(folder, owner);
    for (const { path, inode } of marker.entries.filter((entry) => dirname(entry.path) === location)) {
      if ((await entryOf(path, path)).inode !== inode) fail("DIRECTORY_NOT_EMPTY", `${path} is another one by now`);
      await rename(path, join(folder, basename(path)));
    }
    await syncFolder(folder);
    staged.push(folder);
  }
  const kept = join(staging, keptName);
  const { mode } = await stat(dataDirectory);
  const left: string[] = [];
  if (placement === "whole") await rename(dataDirectory, kept);
  else {
    await makeOwned(kept, owner);
    await chmod(kept, mode & 0o777);
    for (const name of await ownContent(marker)) await rename(join(dataDirectory, name), join(kept, name));
    left.push(...(await nameOthers(marker)));
  }
  await syncFolder(dirname(dataDirectory));
  left.push(...(await putFormerBack(marker)));
  await removeToken({ ...marker, dataDirectory: placement === "whole" ? kept : dataDirectory });
  if (keptAs === "" && madeFolder) await rmdir(dataDirectory).catch(ignoreMissing);
  if (keptAs === "" && !madeFolder) await makeOwned(dataDirectory, owner);
  const where = await leave(staging, marker, { ...unpacked, staged });
  return [...left, where];
}
