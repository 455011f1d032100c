import { createHash } from "node:crypto";
import { chmod, chown, cp, mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { runBinary } from "./run-binary.ts";
import type { ServerUser } from "./server-user.ts";

/** File in the data folder that names the server's folder, when that is elsewhere. */
export const folderFile = "postgresql-folder";

/** Where the embedded server lives. */
export interface Place {
  /** Folder of everything of it; in the data folder, or under /var/lib when its user cannot enter that. */
  readonly folder: string;
  /** Its programs. */
  readonly binaries: string;
}

/**
 * Finds a place that the server's user can enter, and makes it: `<data folder>/postgresql`, else a folder under
 * /var/lib whose name follows from the data folder and is written to `<data folder>/postgresql-folder`. Programs that
 * this user cannot run where they are installed are copied there.
 */
export async function choosePlace(
  dataDirectory: string,
  installed: string,
  user: ServerUser | undefined,
): Promise<Place> {
  const folder = join(dataDirectory, "postgresql");
  if (user === undefined) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return { folder, binaries: installed };
  }
  const canEnter = (await runBinary({ file: "/usr/bin/test", args: ["-x", dataDirectory], user })).code === 0;
  const place = canEnter ? folder : `/var/lib/coppice-${hash(dataDirectory)}`;
  await mkdir(place, { recursive: true, mode: 0o700 });
  await chmod(place, 0o700);
  await chown(place, user.uid, user.gid);
  if (!canEnter) await writeFile(join(dataDirectory, folderFile), `${place}\n`);
  const canRun = (await runBinary({ file: join(installed, "bin/postgres"), args: ["--version"], user })).code === 0;
  return { folder: place, binaries: canRun ? installed : await copyBinaries(installed, place) };
}

async function copyBinaries(installed: string, place: string): Promise<string> {
  const { size, mtimeMs } = await stat(join(installed, "bin/postgres"));
  const copy = join(place, `programs-${hash(`${size} ${mtimeMs}`)}`);
  const there = await stat(copy).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) {
    const half = join(dirname(copy), `.${basename(copy)}`);
    await rm(half, { recursive: true, force: true });
    await cp(installed, half, { recursive: true, verbatimSymlinks: true });
    await rename(half, copy);
  }
  return copy;
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
