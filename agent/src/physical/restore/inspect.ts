import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type Failure, fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { missingConfiguration } from "@coppice/proto/kit/repository/missing-configuration";
import { type Item, look, type Sight } from "../../host/look.ts";
import type { OsUser } from "../../host/os-user.ts";
import { type BackupToRestore, type Chain, openRestoreChain } from "./chain.ts";
import { chooseOwner, ownUids, requireReachable } from "./owner.ts";
import { findRemains, isInPlace, seeRemains } from "./remains.ts";
import { type Recovery, recoverySettings } from "./settings/recovery-settings.ts";
import type { ScratchServer } from "./settings/scratch-settings.ts";
import { seePort } from "./directory/see-port.ts";
import { findReserve, findRooms, freeOf, seeRoom } from "./directory/see-room.ts";
import { findServerPrograms, type ServerPrograms } from "./server-programs.ts";
import { findKept, foldersOf, isOf, type Kept, tellUnpacked } from "./kept/find-kept.ts";
import { type WantedTablespace, seeDirectory, seeTablespace } from "./directory/see-directory.ts";

/** A physical restore that is asked for. */
export interface PhysicalRestore {
  readonly command: RestorePhysicalCommand;
  /** The backups of `command.chain`, each with its storage. */
  readonly backups: readonly BackupToRestore[];
  /** Command by which the server fetches archived WAL (%f and %p as PostgreSQL puts them); undefined: none is archived. */
  readonly restoreCommand: string | undefined;
  /** Why WAL was not handed out to the server that asks by it. */
  readonly refusedWal?: (() => Failure | undefined) | undefined;
  /** Where the server is for this agent alone. */
  readonly scratch?: ScratchServer | undefined;
  /** Files and folders of this host that have to stay where they are: the restore, or who carries it out, reads them. */
  readonly needed?: readonly string[];
  readonly operationId: string;
  readonly signal: AbortSignal;
}

/** What a restore is carried out with once everything was looked at. */
export interface RestoreGround {
  readonly items: readonly Item[];
  readonly chain: Chain;
  readonly owner: OsUser | undefined;
  readonly programs: ServerPrograms | undefined;
  readonly tablespaces: readonly WantedTablespace[];
  readonly recovery: Recovery;
  readonly freeBytes: bigint | undefined;
  /** What earlier tries have left for this directory. */
  readonly kept: readonly Kept[];
  /** The one of them that this restore goes on with. */
  readonly goesOn: Kept | undefined;
}

/** Looks at everything that a restore depends on; changes nothing. Fails where not even the looking works. */
export async function inspectRestore(restore: PhysicalRestore): Promise<RestoreGround> {
  const { command, backups, restoreCommand, signal } = restore;
  const opened = await openRestoreChain(backups, signal);
  const whole = restoreCommand === undefined ? withArchivedWal(opened) : opened;
  const { newest, major } = whole;
  const { content } = newest;
  const { dataDirectory } = command;
  const recovery: Recovery = {
    target: command.target ?? fail("INVALID_FIELD", "the command has no target"),
    backupTimeline: content.timeline,
    restoreCommand,
    isWatched: command.start,
  };
  const tablespaces = placeTablespaces(command, content.tablespaces);
  const remains = await findRemains(restore);
  const kept = restore.scratch ? [] : await findKept(dataDirectory, await ownUids(dataDirectory, signal));
  const wanted = tellUnpacked(whole, recovery.target, tablespaces);
  const fitting = await Promise.all(kept.map(async (each) => ((await isOf(each, wanted)) ? [each] : [])));
  const goesOn = fitting.flat().at(-1);
  const chain: Chain = goesOn ? { ...whole, storedBytes: 0n, neededBytes: 0n } : whole;
  let owner: OsUser | undefined;
  let programs: ServerPrograms | undefined;
  const folders = [dataDirectory, ...tablespaces.map(({ location }) => location)];
  const removed = kept.filter((each) => each !== goesOn).flatMap(foldersOf);
  const rooms = await findRooms(chain, { dataDirectory, tablespaces, removed });
  const reserve = restore.scratch ? await findReserve(content.dataDirectory, dataDirectory) : 0n;
  const source = { dataDirectory: content.dataDirectory, systemIdentifier: newest.manifest.systemIdentifier };
  const items = [
    { name: "backup", message: describeChain(whole) },
    ...kept.map((each) => ({
      name: "kept",
      message:
        each === goesOn
          ? `it goes on with what an earlier try has unpacked and compared, in ${each.staging}`
          : `what an earlier try of another restore has unpacked, in ${each.staging}, is removed`,
    })),
    ...(remains.length > 0 ? [await look("remains", signal, () => seeRemains(remains))] : []),
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
    // What is there then is looked at once they are taken back.
    ...(remains.some(isInPlace)
      ? []
      : [
          await look("directory", signal, () => seeDirectory(command, restore.needed ?? [])),
          ...(await Promise.all(
            tablespaces.map((tablespace) =>
              look(`tablespace ${tablespace.oid}`, signal, () =>
                seeTablespace(tablespace, folders, command.replace ? dataDirectory : undefined),
              ),
            ),
          )),
        ]),
    ...(restore.scratch ? [] : [await look("reach", signal, () => seeReach(folders, owner, signal))]),
    goesOn
      ? { name: "space", message: "nothing more is unpacked" }
      : await look("space", signal, () => seeRoom(rooms, chain.neededBytes, reserve)),
    ...(command.start && !restore.scratch
      ? [await look("port", signal, () => seePort(command.port, source, dataDirectory))]
      : []),
    ...(restore.scratch ? [] : missingConfiguration(content)).map((each) => ({
      name: "configuration",
      message: `the backup lacks ${each}`,
      warning: "plain files are written instead: look them through",
    })),
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
  return { items, chain, owner, programs, tablespaces, recovery, freeBytes: freeOf(rooms), kept, goesOn };
}

/** Of its own folder a scratch server's part looks itself. */
async function seeReach(folders: readonly string[], owner: OsUser | undefined, signal: AbortSignal): Promise<Sight> {
  if (!owner) fail("OS_USER_NOT_FOUND", "without a user for the server nobody comes to its folders");
  for (const folder of folders.filter((one) => one.startsWith("/"))) await requireReachable(folder, owner, signal);
  return { message: `${owner.name} comes to where they are` };
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
): WantedTablespace[] {
  const unknown = given.find(({ oid }) => !inBackup.some((tablespace) => tablespace.oid === oid));
  if (unknown)
    fail("SELECTION_REFUSED", `the backup holds no tablespace of the oid ${unknown.oid}`, {
      hint: `it holds ${inBackup.map(({ oid, location }) => `${oid} (${location})`).join(", ") || "none"}`,
    });
  return inBackup.map(({ oid, location }) => {
    const place = given.find((one) => one.oid === oid);
    return { oid, location: place?.location ?? location, isNamed: place?.named ?? false };
  });
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
