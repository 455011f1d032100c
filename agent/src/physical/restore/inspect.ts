import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { type Item, look, type Sight } from "../../host/look.ts";
import type { OsUser } from "../../host/os-user.ts";
import { freeBytesOf } from "../../host/space.ts";
import { type BackupToRestore, type Chain, openRestoreChain } from "./chain.ts";
import { chooseOwner, nearestFolder } from "./owner.ts";
import { type Recovery, recoverySettings } from "./settings/recovery-settings.ts";
import type { ScratchServer } from "./settings/scratch-settings.ts";
import { findServerPrograms, type ServerPrograms } from "./server-programs.ts";
import { listContent, readPidOf } from "./staging.ts";

/** A physical restore that is asked for. */
export interface PhysicalRestore {
  readonly command: RestorePhysicalCommand;
  /** The backups of `command.chain`, each with its storage. */
  readonly backups: readonly BackupToRestore[];
  /** Command by which the server fetches archived WAL (%f and %p as PostgreSQL puts them); undefined: none is archived. */
  readonly restoreCommand: string | undefined;
  /** Where the server is for this agent alone. */
  readonly scratch?: ScratchServer | undefined;
  readonly operationId: string;
  readonly signal: AbortSignal;
}

/** A tablespace of the backup and its new place. */
export interface PlacedTablespace {
  readonly oid: number;
  readonly location: string;
}

/** What a restore is carried out with once everything was looked at. */
export interface RestoreGround {
  readonly items: readonly Item[];
  readonly chain: Chain;
  readonly owner: OsUser | undefined;
  readonly programs: ServerPrograms | undefined;
  readonly tablespaces: readonly PlacedTablespace[];
  readonly recovery: Recovery;
  readonly freeBytes: bigint | undefined;
}

/** Looks at everything that a restore depends on; changes nothing. Fails where not even the looking works. */
export async function inspectRestore(restore: PhysicalRestore): Promise<RestoreGround> {
  const { command, backups, restoreCommand, signal } = restore;
  const opened = await openRestoreChain(backups, signal);
  const chain = restoreCommand === undefined ? withArchivedWal(opened) : opened;
  const { newest, major } = chain;
  const { content } = newest;
  const { dataDirectory } = command;
  const recovery: Recovery = {
    target: command.target ?? fail("INVALID_FIELD", "the command has no target"),
    backupTimeline: content.timeline,
    restoreCommand,
    isWatched: command.start,
  };
  const tablespaces = placeTablespaces(command, content.tablespaces);
  let owner: OsUser | undefined;
  let programs: ServerPrograms | undefined;
  const folders = [dataDirectory, ...tablespaces.map(({ location }) => location)];
  const freeBytes = await freeOf(folders);
  const items = [
    { name: "backup", message: describeChain(chain) },
    await look("owner", signal, async () => {
      owner = await chooseOwner(dataDirectory, signal);
      return { message: `the files become ${owner.name}'s` };
    }),
    await look("tools", signal, async () => {
      if (!owner) fail("OS_USER_NOT_FOUND", "without a user for the server its programs cannot be tried");
      programs = await findServerPrograms(major, { isChain: chain.links.length > 1, user: owner, signal });
      return { message: `programs of PostgreSQL ${programs.version}` };
    }),
    await look("target", signal, () => seeTarget(restore, chain)),
    await look("directory", signal, () => seeDirectory(command)),
    ...(await Promise.all(
      tablespaces.map((tablespace) =>
        look(`tablespace ${tablespace.oid}`, signal, () => seeTablespace(tablespace, folders)),
      ),
    )),
    await look("space", signal, () => seeRoom(freeBytes, chain.neededBytes)),
    ...(content.corruptPages
      ? [
          {
            name: "pages",
            message: "the backup was accepted with pages that failed their checksums",
            warning: "what they hold is not to be relied on",
          },
        ]
      : []),
  ];
  return { items, chain, owner, programs, tablespaces, recovery, freeBytes };
}

/** With the files of the archive that are unpacked too, because nobody will fetch them for the server. */
function withArchivedWal(chain: Chain): Chain {
  const { archivedWal, walSegmentBytes } = chain.newest.content;
  const objects = archivedWal.flatMap((stream) => stream.objects);
  return {
    ...chain,
    storedBytes: objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, chain.storedBytes),
    neededBytes: chain.neededBytes + BigInt(objects.length) * walSegmentBytes,
  };
}

function describeChain({ links, newest, neededBytes }: Chain): string {
  const { manifest, content } = newest;
  const more = links.length === 1 ? "" : ` on ${links.length - 1} before it`;
  return `the backup ${manifest.backupId}${more}, ${content.startLsn} to ${content.stopLsn} on timeline ${content.timeline}, ${formatSize(neededBytes)} unpacked`;
}

function placeTablespaces(
  { tablespaces: given }: RestorePhysicalCommand,
  inBackup: readonly { readonly oid: number; readonly location: string }[],
): PlacedTablespace[] {
  const unknown = given.find(({ oid }) => !inBackup.some((tablespace) => tablespace.oid === oid));
  if (unknown)
    fail("SELECTION_REFUSED", `the backup holds no tablespace of the oid ${unknown.oid}`, {
      hint: `it holds ${inBackup.map(({ oid, location }) => `${oid} (${location})`).join(", ") || "none"}`,
    });
  return inBackup.map(({ oid, location }) => ({
    oid,
    location: given.find((place) => place.oid === oid)?.location ?? location,
  }));
}

function seeTarget({ command, restoreCommand }: PhysicalRestore, { newest }: Chain): Sight {
  const { target, start } = command;
  const { content } = newest;
  const point = target?.point.case;
  recoverySettings({
    target: target ?? fail("INVALID_FIELD", "the command has no target"),
    backupTimeline: content.timeline,
    restoreCommand,
  });
  // WAL up to there is in the backup, or named by its manifest and taken out of the archive meanwhile.
  if (restoreCommand === undefined && point !== undefined && point !== "immediate")
    fail("RECOVERY_TARGET_UNREACHABLE", `with the WAL of the backup alone recovery ends at ${content.stopLsn}`, {
      hint: "restore it to where it is consistent: to the latest, or immediate",
    });
  const where = point === undefined ? "the latest that is there" : point;
  return { message: start ? `the server recovers to ${where}` : `a server started there recovers to ${where}` };
}

/** Whether the folder can be had as the command says. Fails with SERVER_RUNNING or DIRECTORY_NOT_EMPTY. */
async function seeDirectory({ dataDirectory, replace }: RestorePhysicalCommand): Promise<Sight> {
  if (dataDirectory === "/" || dataDirectory.split("/").includes(".."))
    fail("INVALID_FIELD", `${dataDirectory} cannot be a data directory`);
  const pid = await readPidOf(dataDirectory);
  if (pid !== undefined)
    fail("SERVER_RUNNING", `a server runs in ${dataDirectory} as process ${pid}`, { hint: "stop it first" });
  const found = await stat(dataDirectory).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (!found) return { message: `${dataDirectory} will be made` };
  if (!found.isDirectory()) fail("DIRECTORY_NOT_EMPTY", `${dataDirectory} is no folder`);
  const names = await listContent(dataDirectory);
  if (names.length === 0) return { message: `${dataDirectory} is empty` };
  if (!replace) fail("DIRECTORY_NOT_EMPTY", `${dataDirectory} is not empty: it holds ${names.slice(0, 3).join(", ")}`);
  if (found.dev !== (await stat(dirname(dataDirectory))).dev)
    fail("NOT_SUPPORTED", `${dataDirectory} is a file system of its own and cannot be moved aside`, {
      hint: "empty it, or restore into another folder",
    });
  return { message: `what is in ${dataDirectory} is moved aside` };
}

async function seeTablespace({ oid, location }: PlacedTablespace, folders: readonly string[]): Promise<Sight> {
  if (!location.startsWith("/") || location.split("/").includes(".."))
    fail("NOT_SUPPORTED", `the tablespace ${oid} lies in ${location}, inside the data directory`, {
      hint: "give it a folder of its own",
    });
  const clash = folders.filter(
    (folder) => `${location}/`.startsWith(`${folder}/`) || `${folder}/`.startsWith(`${location}/`),
  );
  if (clash.length > 1) fail("SELECTION_REFUSED", `the folder ${location} lies in another folder of the restore`);
  const names = await listContent(location);
  if (names.length > 0) fail("DIRECTORY_NOT_EMPTY", `the folder ${location} of the tablespace ${oid} is not empty`);
  return { message: `it goes to ${location}` };
}

/** Free bytes of the file systems of the folders together: how a cluster spreads over its tablespaces is not known. */
async function freeOf(folders: readonly string[]): Promise<bigint | undefined> {
  const seen = new Set<number>();
  let sum = 0n;
  for (const folder of folders.filter((each) => each.startsWith("/"))) {
    const there = await nearestFolder(folder);
    const { dev } = await stat(there);
    if (seen.has(dev)) continue;
    seen.add(dev);
    const free = await freeBytesOf(join(there, "."));
    if (free === undefined) return undefined;
    sum += free;
  }
  return sum;
}

function seeRoom(free: bigint | undefined, needed: bigint): Sight {
  if (free === undefined) return { message: "free space cannot be seen from here" };
  const message = `${formatSize(free)} are free, and ${formatSize(needed)} are needed`;
  if (free < needed) fail("SPACE_MISSING", message);
  return { message };
}
