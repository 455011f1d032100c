import { chmod, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An empty folder for large files, removed at the end. */
export interface WorkFolder extends AsyncDisposable {
  readonly path: string;
}

const pattern = /^coppice-offline-(\d+)-/;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is one too.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Removes what runs of this user that were killed have left: plain archives are as secret as the databases. */
async function clearLeavings(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = Number(pattern.exec(name)?.[1]);
    if (!Number.isInteger(pid) || isRunning(pid)) continue;
    const path = join(parent, name);
    const info = await stat(path).catch(() => undefined);
    if (info?.isDirectory() && info.uid === process.getuid?.()) await rm(path, { recursive: true, force: true });
  }
}

/** Makes a folder below the system's temporary one (TMPDIR). */
export async function openWorkFolder(): Promise<WorkFolder> {
  await clearLeavings(tmpdir());
  const path = await mkdtemp(join(tmpdir(), `coppice-offline-${process.pid}-`));
  // As root, PostgreSQL's programs run as the server's user: it has to pass through, and each file is given to it.
  if (process.getuid?.() === 0) await chmod(path, 0o711);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
