import { chown, lchown, mkdir, readlink, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../host/os-user.ts";
import { runProgram } from "../../host/run.ts";
import { archivedWalStreams } from "../../repository/manifest-objects.ts";
import type { Chain, ChainLink } from "./chain.ts";
import type { PlacedTablespace } from "./directory/see-directory.ts";
import { type ServerPrograms, serverProgram } from "./server-programs.ts";
import { makeOwned, stagingIn } from "./staging.ts";
import { surveyTree, type Tree, unpackFile, unpackTar, type Unpacking } from "./unpack.ts";

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

/** A data directory that is whole and was compared with its manifest, but is not in its place yet. */
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
  { part, isNewest }: { part: number; isNewest: boolean },
  place: StagePlace,
): Promise<Staged> {
  const { staging, operationId, unpacking, tablespaces, onPhase } = place;
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

/** Compares every file with PostgreSQL's own manifest of the backup. Fails with CONTENT_UNREADABLE. */
async function compareWithManifest(data: string, what: string, { programs, unpacking }: StagePlace): Promise<void> {
  const { user, signal } = unpacking;
  const args = ["--no-parse-wal", "--exit-on-error", "--quiet", "--ignore=tablespace_map", data];
  try {
    await runProgram({ file: serverProgram(programs, "pg_verifybackup"), args, user }, { signal });
  } catch (error) {
    if (!isFailure(error, "PROGRAM_FAILED") || error.metadata["exitCode"] === undefined) throw error;
    throw new Failure("CONTENT_UNREADABLE", `${what} is not what its manifest says: ${error.message}`, {
      cause: error,
    });
  }
}

async function combine(staged: readonly Staged[], place: StagePlace): Promise<Staged> {
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
  await runProgram(
    {
      file: serverProgram(programs, "pg_combinebackup"),
      args: [`--output=${data}`, ...mappings, ...staged.map((each) => each.data)],
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
 * each compared with its manifest, its tablespaces linked where they are staged. Fails as unpackTar does, and with
 * CONTENT_UNREADABLE.
 */
export async function stageBackup({ links }: Chain, place: StagePlace): Promise<Staged> {
  const staged: Staged[] = [];
  for (const [index, link] of links.entries()) {
    const unpacked = await unpackBackup(link, { part: index, isNewest: index === links.length - 1 }, place);
    place.onPhase("comparing", link.manifest.backupId);
    await compareWithManifest(unpacked.data, `the backup ${link.manifest.backupId}`, place);
    staged.push(unpacked);
  }
  const [only] = staged;
  if (only && staged.length === 1) return only;
  place.onPhase("combining", `${links.length} backups`);
  const result = await combine(staged, place);
  place.onPhase("comparing", "the result");
  await compareWithManifest(result.data, "what was combined", place);
  return result;
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
