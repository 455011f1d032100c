import { chmod, rename, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { OsUser } from "../../host/os-user.ts";
import { syncFolder } from "../../journal/durable-file.ts";
import type { PlacedTablespace } from "./inspect.ts";
import { linkTablespaces, requireFolder, type Staged, stagedTablespace } from "./stage-backup.ts";
import { type Marker, moveContent, writeMarker } from "./staging.ts";

/** Moves what is staged into its place; `pg_control`, without which no server starts, as the very last. */
export async function putIntoPlace(
  staged: Staged,
  {
    owner,
    tablespaces,
    marker,
    staging,
  }: { owner: OsUser; tablespaces: readonly PlacedTablespace[]; marker: Marker; staging: string },
): Promise<void> {
  const { dataDirectory, keptAs } = marker;
  const control = join(staging, "pg_control");
  const sources = await Promise.all(
    tablespaces.map(async (each) => ({ ...each, from: await stagedTablespace(staged, each) })),
  );
  await linkTablespaces(staged.data, tablespaces, owner);
  await rename(join(staged.data, "global", "pg_control"), control);
  await writeMarker(staging, { ...marker, state: "placing" });
  if (keptAs !== "") await rename(dataDirectory, keptAs);
  await requireFolder(dataDirectory, owner);
  await chmod(dataDirectory, (await stat(staged.data)).mode & 0o750);
  for (const { from, location } of sources) await moveContent(from, location);
  await moveContent(staged.data, dataDirectory);
  await rmdir(staged.data);
  await rename(control, join(dataDirectory, "global", "pg_control"));
  await syncFolder(join(dataDirectory, "global"));
  await syncFolder(dataDirectory);
  await syncFolder(dirname(dataDirectory));
}
