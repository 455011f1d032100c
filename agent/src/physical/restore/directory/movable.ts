import { readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { ignoreMissing } from "./ignore-missing.ts";
import { tablespacesOf } from "./aside.ts";
import { runningServers } from "./running-server.ts";

const hint = "name the data directory alone that is to be replaced, or another folder";

/** Whether one of the names in a folder makes it a repository of backups. */
export async function isRepository(folder: string, names: readonly string[]): Promise<boolean> {
  for (const name of names.filter((each) => /^cls_\w+$/.test(each)))
    if ((await stat(join(folder, name, "cluster.json")).catch(ignoreMissing)) !== undefined) return true;
  return false;
}

async function listEntries(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EACCES")) throw cause;
    return fail("FILE_NOT_WRITABLE", `the agent may not look into ${folder}, which would be moved aside`, {
      hint: "let the agent's user read it, or name another folder",
      cause,
    });
  }
}

/** A cluster or a repository in what is moved would not be where those who use it look for it. */
async function requireNothingBelow(top: string): Promise<void> {
  const folders = [top];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const entries = await listEntries(folder);
    const names = entries.map(({ name }) => name);
    const isCluster = names.includes("PG_VERSION") && names.includes("global");
    if (isCluster && folder !== top)
      fail("INVALID_FIELD", `${top} holds ${folder}, the data directory of another cluster`, { hint });
    if (await isRepository(folder, names))
      fail("INVALID_FIELD", `${folder === top ? top : `${top} holds ${folder}, which`} is a repository of backups`, {
        hint,
      });
    // Of the many files of databases nothing is to be known.
    const inside = entries.filter((entry) => entry.isDirectory() && !(isCluster && entry.name === "base"));
    folders.push(...inside.map(({ name }) => join(folder, name)));
  }
}

/** Whether a path is a folder or lies in it; both without links. */
function liesIn(path: string, folder: string): boolean {
  return `${path}/`.startsWith(`${folder}/`);
}

async function requireNotUsed(dataDirectory: string, real: string): Promise<void> {
  for (const server of await runningServers()) {
    const wal = await realpath(join(server.dataDirectory, "pg_wal")).catch(() => server.dataDirectory);
    const used = [server.dataDirectory, wal, ...(await tablespacesOf(server.dataDirectory))];
    const place = used.find((each) => liesIn(each, real));
    if (place !== undefined)
      fail(
        "SERVER_RUNNING",
        `the server in ${server.dataDirectory}, process ${server.pid}, uses ${place}, which would be moved aside with ${dataDirectory}`,
        { hint },
      );
  }
}

/**
 * Makes sure that the content of a folder can be moved aside: no cluster but its own lies in it, no running server uses
 * anything there, no repository, and none of `needed`, files and folders that the restore itself reads. Fails with
 * SERVER_RUNNING, INVALID_FIELD, or FILE_NOT_WRITABLE where that cannot be seen.
 */
export async function requireMovable(dataDirectory: string, needed: readonly string[]): Promise<void> {
  const real = await realpath(dataDirectory);
  await requireNotUsed(dataDirectory, real);
  for (const path of needed) {
    const place = await realpath(path).catch(ignoreMissing);
    if (place !== undefined && liesIn(place, real))
      fail("INVALID_FIELD", `${path}, which the restore needs, would be moved aside with ${dataDirectory}`, {
        hint: "name another folder, or move that elsewhere first",
      });
  }
  await requireNothingBelow(real);
}
