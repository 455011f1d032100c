import {
  lchown,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { syncFolder } from "../../../journal/durable-file.ts";
import { listContent, type FormerTablespace, type Marker } from "../staging.ts";

/** End of the name that a link has until it takes the place of another. */
const halfMade = ".coppice-new";

async function isThere(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing)) !== undefined;
}

/** The links of a data directory's tablespaces, and where each leads to. */
async function linksOf(dataDirectory: string): Promise<{ readonly path: string; readonly target: string }[]> {
  const folder = join(dataDirectory, "pg_tblspc");
  const links: { path: string; target: string }[] = [];
  for (const name of (await readdir(folder).catch(ignoreMissing)) ?? []) {
    const path = join(folder, name);
    if (name.endsWith(halfMade)) continue;
    if ((await lstat(path)).isSymbolicLink()) links.push({ path, target: await readlink(path) });
  }
  return links;
}

/** The real folders of a data directory's tablespaces, as far as they are there. */
export async function tablespacesOf(dataDirectory: string): Promise<string[]> {
  const links = await linksOf(dataDirectory);
  const found = await Promise.all(links.map(({ target }) => realpath(target).catch(ignoreMissing)));
  return found.filter((place) => place !== undefined);
}

/** Whether a name in a tablespace's folder is that of the cluster's own: those of other major versions lie beside it. */
async function ownedBy(dataDirectory: string): Promise<(name: string) => boolean> {
  const major = (await readFile(join(dataDirectory, "PG_VERSION"), "utf8").catch(ignoreMissing))?.trim();
  return (name) => major !== undefined && name.startsWith(`PG_${major}_`);
}

/**
 * Whether a folder is a tablespace of the cluster in a data directory, with nothing else in it, and can be moved aside with
 * that cluster. Fails with NOT_SUPPORTED where it is one, and is a file system of its own.
 */
export async function isFormerTablespace(location: string, dataDirectory: string): Promise<boolean> {
  const place = await realpath(location);
  const names = await listContent(location);
  const isOwn = await ownedBy(dataDirectory);
  if (!(await tablespacesOf(dataDirectory)).includes(place) || !names.every(isOwn)) return false;
  if ((await stat(place)).dev !== (await stat(dirname(place))).dev)
    fail("NOT_SUPPORTED", `the tablespace's folder ${location} is a file system of its own and cannot be moved aside`, {
      hint: "empty it, or give the tablespace another folder: --tablespace OLD=NEW",
    });
  return true;
}

/** Has the links of a cluster lead from one folder to another. */
async function relink(dataDirectory: string, from: string, to: string): Promise<void> {
  const place = await realpath(from).catch(ignoreMissing);
  for (const { path, target } of await linksOf(dataDirectory)) {
    if (target !== from && (place === undefined || (await realpath(target).catch(ignoreMissing)) !== place)) continue;
    const { uid, gid } = await lstat(path);
    const next = `${path}${halfMade}`;
    await rm(next, { force: true });
    await symlink(to, next);
    if (process.geteuid?.() === 0) await lchown(next, uid, gid);
    await rename(next, path);
  }
  await syncFolder(join(dataDirectory, "pg_tblspc"));
}

async function moveContent(from: string, to: string, isMoved: (name: string) => boolean): Promise<void> {
  for (const name of (await listContent(from)).filter(isMoved)) await rename(join(from, name), join(to, name));
  await syncFolder(to);
  await syncFolder(from);
}

/** Moves what is in the folders of the former cluster's tablespaces aside; that cluster, which is aside, finds it there. */
export async function moveTablespacesAside({ former = [], keptAs }: Marker): Promise<void> {
  const isOwn = await ownedBy(keptAs);
  for (const { location, keptAs: folder } of former) {
    const { uid, gid, mode } = await stat(location);
    await mkdir(folder, { mode: mode & 0o777 });
    if (process.geteuid?.() === 0) await lchown(folder, uid, gid);
    await relink(keptAs, location, folder);
    // Another server may have made its own there meanwhile.
    await moveContent(location, folder, isOwn);
    await syncFolder(dirname(folder));
  }
}

async function putBackOne({ location, keptAs }: FormerTablespace, data: string): Promise<string[]> {
  if (!(await isThere(keptAs))) return [];
  const [there, kept] = [await listContent(location), await listContent(keptAs)];
  if (kept.some((name) => there.includes(name)))
    return [`what was in ${location} before, as ${keptAs}: somebody has put something else into its place`];
  await mkdir(location, { recursive: true });
  await moveContent(keptAs, location, () => true);
  await relink(data, keptAs, location);
  await rmdir(keptAs);
  await syncFolder(dirname(keptAs));
  return [];
}

/**
 * The former content of tablespaces comes back, unless something else has come to its place; before the former cluster
 * does. Gives what could not be put back.
 */
export async function putTablespacesBack({ former = [], keptAs }: Marker): Promise<string[]> {
  const left: string[] = [];
  for (const tablespace of former) left.push(...(await putBackOne(tablespace, keptAs)));
  return left;
}

function ignoreMissing(error: unknown): undefined {
  if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return;
  throw error;
}
