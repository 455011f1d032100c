// One thing: a restore from its first trace to its last, in the order in which nothing of it can be taken for a cluster.
import { randomUUID } from "node:crypto";
import { realpath, stat } from "node:fs/promises";
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalResult,
  RestorePhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { OsUser } from "../../host/os-user.ts";
import { appendSettings, writeRecovered, writeRecovery } from "./settings/configuration.ts";
import { openDirectoryLock } from "./directory/lock.ts";
import { takeBack } from "./directory/take-back.ts";
import { inspectRestore, type PhysicalRestore, type RestoreGround } from "./inspect.ts";
import { recover } from "./recover.ts";
import { beyondEnd, isPromotedAtPause, recoverySettings, stopNote } from "./settings/recovery-settings.ts";
import { lastLines, readServerLog, removeServerTraces, type ServerPlace } from "./server.ts";
import type { ServerPrograms } from "./server-programs.ts";
import { findExtraSettings } from "./settings/extra-settings.ts";
import { loginsOf } from "./settings/logins.ts";
import { requireOwnPlace } from "./settings/own-place.ts";
import { findRequired } from "./settings/required-settings.ts";
import { writeConfiguration } from "./settings/write-configuration.ts";
import { scratchSettings, writeScratchAccess } from "./settings/scratch-settings.ts";
import { putIntoPlace } from "./directory/place.ts";
import { settleRemains } from "./remains.ts";
import { settleUnlocked } from "./settle.ts";
import { tellUnpacked } from "./kept/find-kept.ts";
import { takeUp } from "./kept/take-up.ts";
import { undo, type WholeUnpacked } from "./kept/undo.ts";
import { stageBackup, type Staged, stagedTablespace } from "./stage-backup.ts";
import { unpackHistories } from "./unpacked/archived-histories.ts";
import { requireOwnWal } from "./unpacked/own-wal.ts";
import { syncSettings, syncTree } from "./unpacked/sync-tree.ts";
import { dataStaging, listContent, makeOwned, type Marker, writeMarker } from "./staging.ts";

/** A physical restore that is carried out. */
export interface RestoreToDo extends PhysicalRestore {
  readonly onProgress: (work: WorkDone) => void;
  readonly log: (line: string) => void;
  readonly onLeaving: (leaving: string) => void;
  /** Records the result durably, before the last traces of the work go: a settling finds it there. */
  readonly onRestored: (result: RestorePhysicalResult) => Promise<void>;
}

interface Ready extends RestoreGround {
  readonly owner: OsUser;
  readonly programs: ServerPrograms;
}

/** Fails with the first thing that would have it refused. */
function requireReady(ground: RestoreGround): Ready {
  const refused = ground.items.find(({ failure }) => failure);
  if (refused?.failure) throw refused.failure;
  const { owner, programs } = ground;
  if (!owner || !programs) return fail("INTERNAL", "a restore without a user or programs for its server");
  return { ...ground, owner, programs };
}

function beforeName(folder: string, now: Date): string {
  return `${folder}.before-${now.toISOString().replaceAll(/[-:]|\.\d+/g, "")}`;
}

/**
 * Restores a data directory as the command says. Everything is made beside its place, compared with PostgreSQL's own
 * manifest and synced, and then moved there. When it fails or is cancelled, at any step, the server that was started is
 * stopped, what was made is removed and what was there before is put back: a half of a cluster, or one that is not where
 * it was to recover to, is never left for somebody to use. With `keepFailed` what was unpacked whole is kept, without its
 * pg_control, and the next restore of the same goes on with it, and keeps it again when it fails, too. Fails as
 * inspectRestore's items, stageBackup and putIntoPlace do, with RESTORE_RUNNING, SERVER_NOT_STARTED or RECOVERY_TARGET_UNREACHABLE.
 */
export async function restorePhysical(restore: RestoreToDo): Promise<RestorePhysicalResult> {
  const { command, operationId, signal, onProgress, log } = restore;
  await using _lock = await openDirectoryLock(command.dataDirectory);
  const earlier = await settleUnlocked({ command, operationId, noted: undefined, signal });
  for (const removed of earlier.removed) log(`removed of an earlier run: ${removed}`);
  for (const left of earlier.left) log(`left of an earlier run: ${left}`);
  await settleRemains(restore, log);
  const ground = requireReady(await inspectRestore(restore));
  const { chain, owner, programs, tablespaces, recovery, kept } = ground;
  const { dataDirectory } = command;
  for (const each of kept.filter((one) => one !== ground.goesOn)) {
    log(`removed of an earlier try, which this restore cannot go on with: ${each.staging}`);
    await takeBack(each.staging, each.marker);
  }
  const staging = await dataStaging(dataDirectory, operationId);
  const isThere = await isHere(dataDirectory);
  const isKept = command.replace && (await isFilled(dataDirectory));
  const isMissing = await Promise.all(tablespaces.map(async ({ location }) => !(await isHere(location))));
  const now = new Date();
  const former = await Promise.all(
    tablespaces.map(async ({ location }) => {
      if (!(await isFilled(location))) return [];
      // Beside the folder itself: a link to it may lie in another file system.
      return [{ location, keptAs: beforeName(await realpath(location), now) }];
    }),
  );
  let marker: Marker = {
    operationId,
    dataDirectory,
    tablespaces: tablespaces.map(({ location }) => location),
    madeFolder: !isThere,
    madeLocations: tablespaces.flatMap(({ location }, index) => (isMissing[index] ? [location] : [])),
    keptAs: isKept ? beforeName(dataDirectory, now) : "",
    former: former.flat(),
    state: "unpacking",
    token: randomUUID(),
    placement: "whole",
    entries: [],
  };
  const work = create(WorkDoneSchema, { totalBytes: chain.storedBytes });
  const say = (phase: string, item: string) => {
    Object.assign(work, { phase, item });
    onProgress(work);
  };
  const place: ServerPlace = { data: dataDirectory, programs, user: owner, signal, earlierLogs: new Map() };
  let unpacked: WholeUnpacked | undefined;
  try {
    const onBytes = (bytes: number) => {
      work.doneBytes += BigInt(bytes);
      onProgress(work);
    };
    const unpacking = { user: owner, signal, onBytes };
    let staged: Staged;
    if (ground.goesOn) ({ staged, marker } = await takeUp(ground.goesOn, { staging, marker, owner }));
    else {
      await makeOwned(staging, owner);
      await writeMarker(staging, marker);
      staged = await stageBackup(chain, {
        staging,
        operationId,
        tablespaces,
        programs,
        takesArchivedWal: recovery.restoreCommand === undefined,
        unpacking,
        onPhase: say,
      });
    }
    await removeServerTraces(staged.data);
    const replaying = { dataDirectory: staged.data, isScratch: restore.scratch !== undefined, tablespaces };
    await requireOwnWal(replaying, signal);
    // What was kept has its configuration already, and perhaps somebody has mended it meanwhile.
    const warnings = ground.goesOn
      ? [...ground.goesOn.unpacked.warnings]
      : await writeConfiguration(chain.newest, { data: staged.data, staging, unpacking });
    if (recovery.restoreCommand === undefined)
      await unpackHistories(chain.newest, { data: staged.data, unpacking, warnings });
    if (command.keepFailed || ground.goesOn) {
      const told = {
        ...tellUnpacked(chain, recovery.target, tablespaces),
        staged: await Promise.all(tablespaces.map((tablespace) => stagedTablespace(staged, tablespace))),
        files: staged.tree.files,
        bytes: String(staged.tree.bytes),
        warnings: [...warnings],
      };
      unpacked = { data: staged.data, told };
      marker = { ...marker, unpacked: told };
    }
    const stagedPlace: ServerPlace = { data: staged.data, programs, user: owner, signal, earlierLogs: new Map() };
    const logins = loginsOf(chain.newest.content);
    // Each is asked for by a server of its own, which says one and ends.
    const [required, host] = await Promise.all([
      findRequired(stagedPlace, chain.links),
      restore.scratch
        ? { settings: scratchSettings(restore.scratch, chain.major), warnings: [] }
        : findExtraSettings(stagedPlace, {
            port: command.port,
            dataDirectory,
            source: chain.newest.content.dataDirectory,
          }),
    ]);
    warnings.push(...required.warnings, ...host.warnings);
    const extra = [...required.settings, ...host.settings];
    if (restore.scratch) await writeScratchAccess(staged.data, { user: owner, logins, signal });
    await writeRecovery(staged.data, { recovery, extra, user: owner });
    await requireOwnPlace(stagedPlace);
    say("syncing", "");
    // What another try has left was written by a server, too.
    if (ground.goesOn) await syncTree(staged.data, { programs, user: owner, signal });
    else await syncSettings(staged.data);
    const result: MessageInitShape<typeof RestorePhysicalResultSchema> = {
      dataDirectory,
      bytesRead: work.doneBytes,
      files: staged.tree.files,
      dataBytes: staged.tree.bytes,
      keptAs: marker.keptAs,
      warnings,
      timeline: chain.newest.content.timeline,
      programFolder: programs.folder,
    };
    say("moving into place", dataDirectory);
    const isAllButPlacing = command.start
      ? {}
      : { result: toJsonString(RestorePhysicalResultSchema, create(RestorePhysicalResultSchema, result)) };
    const placed = await putIntoPlace(staged, {
      owner,
      tablespaces,
      marker: { ...marker, ...isAllButPlacing, expectedEnd: command.expectedEndLsn },
      staging,
    });
    for (const each of placed.former ?? [])
      warnings.push(`what was in ${each.location} before, a tablespace of what was there, is kept as ${each.keptAs}`);
    if (command.start) {
      say("recovering", "");
      await writeMarker(staging, { ...placed, wasStarted: true });
      const restoreCommand = recoverySettings(recovery).find(([name]) => name === "restore_command")?.[1] ?? "";
      const recovered = await recover({
        place,
        action: recovery.target.action,
        isPromoted: isPromotedAtPause(recovery),
        restoreCommand,
        timelines: [recovery.backupTimeline, recovery.target.timeline],
        stopsAt: stopNote(recovery.target),
        beyondEnd: beyondEnd(recovery.target, chain.newest.manifest.backupId),
        isEndExact: recovery.restoreCommand !== undefined && recovery.target.point.case === undefined,
        expectedEnd: command.expectedEndLsn === "" ? undefined : parseLsn(command.expectedEndLsn),
        onWait: (at) => say("recovering", at),
        // Of a scratch server there is nothing to do for anybody.
        warnings: restore.scratch ? [] : warnings,
        logins,
        onRaised: async (raised) => {
          extra.push(...raised);
          warnings.push(...raised.map(([name, value]) => `${name} was raised to ${value}, as the WAL asks for it`));
          await appendSettings(dataDirectory, raised, owner);
        },
        onRecovered: () => writeRecovered(dataDirectory, { extra, user: owner }),
      });
      // To the end of what it is given a server comes in any case.
      const refused = recovery.target.point.case === undefined && restore.refusedWal?.();
      if (refused) throw refused;
      Object.assign(result, recovered);
    }
    const restored = create(RestorePhysicalResultSchema, result);
    // From here on it is whole for everybody who finds it, also before its result is noted.
    const whole = { result: toJsonString(RestorePhysicalResultSchema, restored), wasStarted: command.start };
    await writeMarker(staging, { ...placed, ...whole });
    await restore.onRestored(restored);
    await writeMarker(staging, { ...placed, state: "done" });
    await takeBack(staging, { ...placed, state: "done" });
    for (const warning of warnings) log(`warning: ${warning}`);
    return restored;
  } catch (error) {
    if (isFailure(error, "SERVER_NOT_STARTED") || isFailure(error, "RECOVERY_TARGET_UNREACHABLE"))
      for (const line of lastLines(await readServerLog(place))) log(`the server said: ${line}`);
    await undo({ ...restore, staging, owner, programs, unpacked: signal.aborted ? undefined : unpacked });
    signal.throwIfAborted();
    throw asSpaceFailure(asRefusedWal(error, restore), dataDirectory);
  }
}

/** A server that was not given all WAL says only that it has come to its end. */
function asRefusedWal(error: unknown, { refusedWal }: RestoreToDo): unknown {
  const isByWal = isFailure(error, "RECOVERY_TARGET_UNREACHABLE") || isFailure(error, "SERVER_NOT_STARTED");
  return (isByWal && refusedWal?.()) || error;
}

async function isHere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

async function isFilled(folder: string): Promise<boolean> {
  return (await listContent(folder)).length > 0;
}

function asSpaceFailure(error: unknown, dataDirectory: string): unknown {
  if (isFailure(error) || !(error instanceof Error && "code" in error)) return error;
  if (error.code !== "ENOSPC" && error.code !== "EDQUOT") return error;
  return new Failure("SPACE_MISSING", `there was no room left for ${dataDirectory}`, { cause: error });
}
