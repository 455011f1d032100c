import { randomUUID } from "node:crypto";
import { rm, stat } from "node:fs/promises";
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalResult,
  RestorePhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { OsUser } from "../../host/os-user.ts";
import { runProgram } from "../../host/run.ts";
import { appendSettings, writeConfiguration, writeRecovered, writeRecovery } from "./settings/configuration.ts";
import { openDirectoryLock } from "./directory/lock.ts";
import { isOwnPlace } from "./directory/ownership.ts";
import { takeBack } from "./directory/take-back.ts";
import { inspectRestore, type PhysicalRestore, type RestoreGround } from "./inspect.ts";
import { recover } from "./recover.ts";
import { recoverySettings, stopNote } from "./settings/recovery-settings.ts";
import { removeServerTraces, type ServerPlace, stopServer } from "./server.ts";
import { serverProgram, type ServerPrograms } from "./server-programs.ts";
import { findExtraSettings } from "./settings/extra-settings.ts";
import { loginsOf } from "./settings/logins.ts";
import { findRequired } from "./settings/required-settings.ts";
import { scratchSettings, writeScratchAccess } from "./settings/scratch-settings.ts";
import { putIntoPlace } from "./directory/place.ts";
import { settleUnlocked } from "./settle.ts";
import { stageBackup } from "./stage-backup.ts";
import { dataStaging, listContent, makeOwned, type Marker, readMarker, writeMarker } from "./staging.ts";

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

function keptName(dataDirectory: string, now: Date): string {
  return `${dataDirectory}.before-${now.toISOString().replaceAll(/[-:]|\.\d+/g, "")}`;
}

/** Stops what runs and takes everything back; says what it could not. What others have put there is left alone. */
async function undo(restore: RestoreToDo, { staging, ground }: { staging: string; ground: Ready }): Promise<void> {
  try {
    const marker = await readMarker(staging);
    if (marker?.state === "placing" && (await isOwnPlace(marker)))
      await stopServer({ data: marker.dataDirectory, programs: ground.programs, user: ground.owner });
    if (!marker) return await rm(staging, { recursive: true, force: true });
    for (const left of (await takeBack(staging, marker)).left) restore.onLeaving(left);
  } catch (error) {
    const why = error instanceof Error ? error.message : "";
    restore.onLeaving(`what was restored into ${restore.command.dataDirectory}, and ${staging}: ${why}`);
  }
}

/**
 * Restores a data directory as the command says. Everything is made beside its place, compared with PostgreSQL's own
 * manifest and synced, and then moved there. When it fails or is cancelled, at any step, the server that was started is
 * stopped, what was made is removed and what was there before is put back: a half of a cluster, or one that is not where
 * it was to recover to, is never left for somebody to use. Fails as inspectRestore's items, stageBackup and putIntoPlace
 * do, with RESTORE_RUNNING, SERVER_NOT_STARTED or RECOVERY_TARGET_UNREACHABLE.
 */
export async function restorePhysical(restore: RestoreToDo): Promise<RestorePhysicalResult> {
  const { command, operationId, signal, onProgress, log } = restore;
  await using _lock = await openDirectoryLock(command.dataDirectory);
  const earlier = await settleUnlocked({ command, operationId, noted: undefined, signal });
  for (const removed of earlier.removed) log(`removed of an earlier run: ${removed}`);
  for (const left of earlier.left) log(`left of an earlier run: ${left}`);
  const ground = requireReady(await inspectRestore(restore));
  const { chain, owner, programs, tablespaces, recovery } = ground;
  const { dataDirectory } = command;
  const staging = await dataStaging(dataDirectory, operationId);
  const isThere = (await stat(dataDirectory).catch(() => undefined)) !== undefined;
  const isKept = command.replace && (await isFilled(dataDirectory));
  const marker: Marker = {
    operationId,
    dataDirectory,
    tablespaces: tablespaces.map(({ location }) => location),
    madeFolder: !isThere,
    keptAs: isKept ? keptName(dataDirectory, new Date()) : "",
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
  try {
    await makeOwned(staging, owner);
    await writeMarker(staging, marker);
    const onBytes = (bytes: number) => {
      work.doneBytes += BigInt(bytes);
      onProgress(work);
    };
    const unpacking = { user: owner, signal, onBytes };
    const staged = await stageBackup(chain, {
      staging,
      operationId,
      tablespaces,
      programs,
      takesArchivedWal: recovery.restoreCommand === undefined,
      unpacking,
      onPhase: say,
    });
    await removeServerTraces(staged.data);
    const warnings = await writeConfiguration(chain.newest, { data: staged.data, staging, unpacking });
    const stagedPlace: ServerPlace = { data: staged.data, programs, user: owner, signal, earlierLogs: new Map() };
    const logins = loginsOf(chain.newest.content);
    const extra = [
      ...(await findRequired(stagedPlace, chain.links, warnings)),
      ...(restore.scratch
        ? scratchSettings(restore.scratch, chain.major)
        : await findExtraSettings(stagedPlace, command.port, warnings)),
    ];
    if (restore.scratch) await writeScratchAccess(staged.data, { user: owner, logins, signal });
    await writeRecovery(staged.data, { recovery, extra, user: owner });
    say("syncing", "");
    const sync = {
      file: serverProgram(programs, "initdb"),
      args: ["--sync-only", `--pgdata=${staged.data}`],
      user: owner,
    };
    await runProgram(sync, { signal });
    const result: MessageInitShape<typeof RestorePhysicalResultSchema> = {
      dataDirectory,
      bytesRead: work.doneBytes,
      files: staged.tree.files,
      dataBytes: staged.tree.bytes,
      keptAs: marker.keptAs,
      warnings,
      timeline: chain.newest.content.timeline,
    };
    say("moving into place", dataDirectory);
    const isAllButPlacing = command.start
      ? {}
      : { result: toJsonString(RestorePhysicalResultSchema, create(RestorePhysicalResultSchema, result)) };
    const placed = await putIntoPlace(staged, {
      owner,
      tablespaces,
      marker: { ...marker, ...isAllButPlacing },
      staging,
    });
    if (command.start) {
      say("recovering", "");
      const place: ServerPlace = { data: dataDirectory, programs, user: owner, signal, earlierLogs: new Map() };
      const restoreCommand = recoverySettings(recovery).find(([name]) => name === "restore_command")?.[1] ?? "";
      const recovered = await recover({
        place,
        action: recovery.target.action,
        restoreCommand,
        timelines: [recovery.backupTimeline, recovery.target.timeline],
        stopsAt: stopNote(recovery.target),
        isEndExact: recovery.restoreCommand !== undefined && recovery.target.point.case === undefined,
        expectedEnd: command.expectedEndLsn === "" ? undefined : parseLsn(command.expectedEndLsn),
        onWait: (lsn) => say("recovering", lsn),
        warnings,
        logins,
        onRaised: async (raised) => {
          extra.push(...raised);
          warnings.push(...raised.map(([name, value]) => `${name} was raised to ${value}, as the WAL asks for it`));
          await appendSettings(dataDirectory, raised, owner);
        },
        onRecovered: () => writeRecovered(dataDirectory, { extra, user: owner }),
      });
      Object.assign(result, recovered);
    }
    const restored = create(RestorePhysicalResultSchema, result);
    await restore.onRestored(restored);
    await writeMarker(staging, { ...placed, state: "done" });
    await takeBack(staging, { ...placed, state: "done" });
    for (const warning of warnings) log(`warning: ${warning}`);
    return restored;
  } catch (error) {
    await undo(restore, { staging, ground });
    signal.throwIfAborted();
    throw asSpaceFailure(error, dataDirectory);
  }
}

async function isFilled(folder: string): Promise<boolean> {
  return (await listContent(folder)).length > 0;
}

function asSpaceFailure(error: unknown, dataDirectory: string): unknown {
  if (isFailure(error) || !(error instanceof Error && "code" in error)) return error;
  if (error.code !== "ENOSPC" && error.code !== "EDQUOT") return error;
  return new Failure("SPACE_MISSING", `there was no room left for ${dataDirectory}`, { cause: error });
}
