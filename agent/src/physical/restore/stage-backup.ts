import { chown, lchown, mkdir, readlink, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../host/os-user.ts";
import { runProgram } from "../../host/run.ts";
import { syncFolder } from "../../journal/durable-file.ts";
import { archivedWalStreams } from "../../repository/manifest-objects.ts";
import { copyMethod } from "../combine/copy-method.ts";
import type { Chain, ChainLink } from "./chain.ts";
import type { PlacedTablespace } from "./directory/see-directory.ts";
import { type ServerPrograms, serverProgram } from "./server-programs.ts";
import { makeOwned, stagingIn } from "./staging.ts";
import { allOrNone } from "./unpacked/all-or-none.ts";
import { compareWithManifest } from "./unpacked/compare.ts";
import { syncTree } from "./unpacked/sync-tree.ts";
import { surveyTree, type Tree, unpackFile, unpackTar, type Unpacking } from "./unpacked/unpack.ts";

/** Where and with what backups are made into a data directory. */
export interface StagePlace {
  readonly staging: string;
  readonly operationId: string;
  readonly tablespaces: readonly PlacedTablespace[];
  readonly programs: ServerPrograms;
  /** Whether the newest backup's WAL comes out of the archive now, and not when the server asks for it. */
  readonly takesArchivedWal: boolean;
  readonly unpacking: Unpacking;
  readonly onPhase: (phase: string, item: string) => void;
}

/** A data directory that is whole, was compared with its manifest and synced, but is not in its place yet. */
export interface Staged {
  readonly data: string;
  readonly tree: Tree;
}

/** Name of a staged backup in its staging folders: its number in the chain, or what came of them. */
type Part = number | "result";

function tablespaceStage({ location }: PlacedTablespace, operationId: string, part: Part): string {
  return join(stagingIn(location, operationId), String(part));
}

async function linkOwned(target: string, path: string, { uid, gid }: OsUser): Promise<void> {
  await symlink(target, path);
  if (process.geteuid?.() === 0) await lchown(path, uid, gid);
}

/** Points the links of tablespaces of a data directory at their places. */
export async function linkTablespaces(
  data: string,
  places: readonly { readonly oid: number; readonly location: string }[],
  user: OsUser,
): Promise<void> {
  const folder = join(data, "pg_tblspc");
  await makeOwned(folder, user);
  for (const { oid, location } of places) {
    await rm(join(folder, String(oid)), { force: true });
    await linkOwned(location, join(folder, String(oid)), user);
  }
  // A server would make the links of the source again by it.
  await rm(join(data, "tablespace_map"), { force: true });
  await syncFolder(folder);
}

/** Puts the files of the archive that the backup needs where its server looks first. */
async function unpackArchivedWal(link: ChainLink, data: string, { unpacking, onPhase }: StagePlace): Promise<void> {
  const { user } = unpacking;
  const folder = join(data, "pg_wal");
  await makeOwned(folder, user);
  for (const { stream, name, prefix } of archivedWalStreams(link.manifest)) {
    onPhase("unpacking", name);
    // Of a part of a segment the rest is zeros.
    const file = join(folder, name.replace(/\.partial\..*$/, ""));
    await unpackFile({ ...link, prefix }, { stream, file, what: `${name} of the archive` }, unpacking);
    if (process.geteuid?.() === 0) await chown(file, user.uid, user.gid);
  }
}

async function unpackBackup(
  link: ChainLink,
  { part, isNewest, isResult }: { part: number; isNewest: boolean; isResult: boolean },
  place: StagePlace,
): Promise<Staged> {
  const { staging, operationId, tablespaces, onPhase } = place;
  const unpacking = { ...place.unpacking, stays: isResult };
  const { user } = unpacking;
  const { content, manifest } = link;
  const data = join(staging, String(part));
  let [files, bytes] = [0, 0n];
  const survey = async (folder: string) => {
    const tree = await surveyTree(folder);
    files += tree.files;
    bytes += tree.bytes;
  };
  const places: PlacedTablespace[] = [];
  // The data directory last: its last file is pg_control.
  for (const { oid, stream } of content.tablespaces) {
    // What a parent has in a tablespace that is gone since is of no use, but its manifest names it.
    const placed = tablespaces.find((each) => each.oid === oid);
    const folder = placed
      ? tablespaceStage(placed, operationId, part)
      : join(staging, "tablespaces", String(part), String(oid));
    if (placed) await requireFolder(placed.location, user);
    await makeOwned(folder, user);
    if (!stream) fail("MANIFEST_UNREADABLE", `the manifest names no objects of the tablespace ${oid}`);
    onPhase("unpacking", `tablespace ${oid}`);
    await unpackTar(link, { stream, folder, what: `the tablespace ${oid} of ${manifest.backupId}` }, unpacking);
    await survey(folder);
    places.push({ oid, location: folder });
  }
  await makeOwned(data, user);
  onPhase("unpacking", manifest.backupId);
  const { base, backupManifest, wal } = content;
  if (!base || !backupManifest) return fail("MANIFEST_UNREADABLE", "the manifest names no data directory");
  await unpackTar(link, { stream: base, folder: data, what: `the data directory of ${manifest.backupId}` }, unpacking);
  const manifestFile = join(data, "backup_manifest");
  await unpackFile(link, { stream: backupManifest, file: manifestFile, what: "backup_manifest" }, unpacking);
  if (process.geteuid?.() === 0) await chown(manifestFile, user.uid, user.gid);
  await survey(data);
  if (wal) {
    onPhase("unpacking", "WAL");
    const folder = join(data, "pg_wal");
    await makeOwned(folder, user);
    await unpackTar(link, { stream: wal, folder, what: `the WAL of ${manifest.backupId}` }, unpacking);
    await surveyTree(folder);
  }
  if (isNewest && place.takesArchivedWal) await unpackArchivedWal(link, data, place);
  await linkTablespaces(data, places, user);
  return { data, tree: { files, bytes } };
}

async function combine(staged: readonly Staged[], major: number, place: StagePlace): Promise<Staged> {
  const { staging, operationId, tablespaces, programs, unpacking } = place;
  const { user, signal } = unpacking;
  const newest = staged.at(-1) ?? fail("INTERNAL", "a chain without backups");
  const data = join(staging, "result");
  const mappings: string[] = [];
  for (const tablespace of tablespaces) {
    const to = tablespaceStage(tablespace, operationId, "result");
    const from = await readlink(join(newest.data, "pg_tblspc", String(tablespace.oid)));
    await makeOwned(to, user);
    const escaped = [from, to].map((path) => path.replaceAll("\\", "\\\\").replaceAll("=", "\\="));
    mappings.push(`--tablespace-mapping=${escaped.join("=")}`);
  }
  const folders = [staging, ...tablespaces.map((each) => tablespaceStage(each, operationId, "result"))];
  // It is synced with all that is written to it later.
  const how = [await copyMethod(major, folders), "--no-sync"];
  await runProgram(
    {
      file: serverProgram(programs, "pg_combinebackup"),
      args: [...how, `--output=${data}`, ...mappings, ...staged.map((each) => each.data)],
      user,
    },
    { signal },
  );
  const trees = await Promise.all(
    // The links in it are those that we have made.
    [data, ...tablespaces.map((each) => tablespaceStage(each, operationId, "result"))].map((folder) =>
      surveyTree(folder, "pg_tblspc"),
    ),
  );
  return {
    data,
    tree: trees.reduce((sum, tree) => ({ files: sum.files + tree.files, bytes: sum.bytes + tree.bytes })),
  };
}

/**
 * Makes a data directory of a chain of backups in the staging folders: unpacked, combined where there are incrementals,
 * each compared with its manifest, its tablespaces linked where they are staged, and all of it synced. A backup of a
 * chain is compared while the next one is unpacked. Fails as unpackTar does, and with CONTENT_UNREADABLE.
 */
export async function stageBackup({ links, major }: Chain, place: StagePlace): Promise<Staged> {
  const { onPhase } = place;
  const { user, signal } = place.unpacking;
  const compare = (data: string, what: string, stop: AbortSignal) =>
    compareWithManifest(data, { what, programs: place.programs, user, signal: stop });
  const finish = async (staged: Staged, what: string) => {
    await allOrNone(signal, [
      (stop) => compare(staged.data, what, stop),
      (stop) => syncTree(staged.data, { programs: place.programs, user, signal: stop }),
    ]);
    return staged;
  };
  const [only, ...more] = links;
  if (only && more.length === 0) {
    const staged = await unpackBackup(only, { part: 0, isNewest: true, isResult: true }, place);
    onPhase("comparing", only.manifest.backupId);
    return await finish(staged, `the backup ${only.manifest.backupId}`);
  }
  const staged: Staged[] = [];
  let comparing: ((stop: AbortSignal) => Promise<void>)[] = [];
  for (const [part, link] of links.entries()) {
    const unpack = async (stop: AbortSignal) => {
      const unpacking = { ...place.unpacking, signal: stop };
      const isNewest = part === links.length - 1;
      staged.push(await unpackBackup(link, { part, isNewest, isResult: false }, { ...place, unpacking }));
    };
    await allOrNone(signal, [...comparing, unpack]);
    const { data } = staged.at(-1) ?? fail("INTERNAL", "a backup that was not unpacked");
    comparing = [(stop) => compare(data, `the backup ${link.manifest.backupId}`, stop)];
  }
  onPhase("comparing", links.at(-1)?.manifest.backupId ?? "");
  await allOrNone(signal, comparing);
  onPhase("combining", `${links.length} backups`);
  const result = await combine(staged, major, place);
  onPhase("comparing", "the result");
  const whole = await finish(result, "what was combined");
  // It may share files with what it was made of, which are its own from here on.
  for (const [part, { data }] of staged.entries()) {
    await rm(data, { recursive: true });
    for (const tablespace of place.tablespaces)
      await rm(tablespaceStage(tablespace, place.operationId, part), { recursive: true, force: true });
  }
  return whole;
}

/** The staged content of a tablespace of a staged data directory. */
export async function stagedTablespace({ data }: Staged, { oid }: PlacedTablespace): Promise<string> {
  return await readlink(join(data, "pg_tblspc", String(oid)));
}

/** Makes sure that a folder is there and the server's user's own. */
export async function requireFolder(folder: string, user: OsUser): Promise<void> {
  await makeOwned(folder, user);
  await mkdir(folder, { recursive: true });
  if (process.geteuid?.() === 0) await chown(folder, user.uid, user.gid);
}
