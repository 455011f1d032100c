import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fromJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  type RestorePhysicalResult,
  RestorePhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { fail } from "@coppice/proto/kit/failure";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { syncFolder } from "../../journal/durable-file.ts";
import { readMajor } from "../../postgres/control-data.ts";
import { closeAccess } from "./access.ts";
import { openDirectoryLock } from "./directory/lock.ts";
import { isOwnPlace, isWholeInPlace } from "./directory/ownership.ts";
import { isServed } from "./directory/running-server.ts";
import { type TakenBack, takeBack } from "./directory/take-back.ts";
import { describeKept } from "./kept/find-kept.ts";
import { keepPlaced } from "./kept/keep.ts";
import { chooseOwner } from "./owner.ts";
import { recordSlack } from "./recover.ts";
import { reloadServer, stopServer } from "./server.ts";
import { findServerPrograms } from "./server-programs.ts";
import { dataStaging, type Marker, readMarker } from "./staging.ts";
import { ignoreMissing } from "./directory/ignore-missing.ts";

/** A restore whose answer was lost. */
export interface LostRestore {
  readonly command: RestorePhysicalCommand;
  readonly operationId: string;
  /** The result that it noted; undefined when it did not get that far. */
  readonly noted: RestorePhysicalResult | undefined;
  readonly signal: AbortSignal;
}

/** How a restore ended, what was removed, and what stays where it is though it was not answered for. */
export interface Settled extends TakenBack {
  readonly outcome: RestorePhysicalResult | undefined;
}

/**
 * Stops the server that runs in a data directory, where one does. Fails with SERVER_RUNNING, and where its programs are
 * not here any more.
 */
export async function stopServerIn(dataDirectory: string, signal: AbortSignal): Promise<void> {
  if (!(await isServed(dataDirectory))) return;
  const major =
    (await readMajor(dataDirectory)) ??
    fail("SERVER_RUNNING", `a server runs in ${dataDirectory}, and its PG_VERSION is not there any more`);
  const user = await chooseOwner(dataDirectory, signal);
  const programs = await findServerPrograms(major, { isChain: false, user, signal });
  await stopServer({ data: dataDirectory, programs, user });
}

/**
 * How a restore ended whose answer was lost, by what it noted and what lies there: with a result it stays; so does what
 * has recovered by itself since, because somebody may use it, and whether it came to its target is looked up; anything else
 * of it is stopped and taken back, or kept where it was to be. What others have put into its place is neither. Fails with RESTORE_RUNNING where it still works.
 */
export async function settlePhysical(lost: LostRestore): Promise<Settled> {
  await using _lock = await openDirectoryLock(lost.command.dataDirectory);
  return await settleUnlocked(lost);
}

/** As settlePhysical, of somebody who holds the directory's lock. */
export async function settleUnlocked({ command, operationId, ...lost }: LostRestore): Promise<Settled> {
  return await settleStaging(await dataStaging(command.dataDirectory, operationId), lost);
}

/** As settleUnlocked, of the restore whose staging folder that is. */
export async function settleStaging(
  staging: string,
  { noted, signal }: Pick<LostRestore, "noted" | "signal">,
): Promise<Settled> {
  const marker = await readMarker(staging);
  if (!marker) {
    const isThere = (await stat(staging).catch(() => undefined)) !== undefined;
    await rm(staging, { recursive: true, force: true });
    return { outcome: noted, removed: isThere && !noted ? [`the staging folder ${staging}`] : [], left: [] };
  }
  const { dataDirectory } = marker;
  if (noted) return { outcome: noted, ...(await takeBack(staging, { ...marker, state: "done" })) };
  if (marker.state === "kept" && marker.unpacked)
    return { outcome: undefined, removed: [], left: [describeKept({ staging, unpacked: marker.unpacked })] };
  if (marker.state === "placing" && (await isWholeInPlace(marker))) {
    if (marker.result !== undefined) return await finishPlaced(staging, marker, marker.result);
    if (await hasRecovered(dataDirectory)) return await keepRecovered(staging, marker, signal);
  }
  if (marker.state === "placing" && (await isOwnPlace(marker))) {
    await stopServerIn(dataDirectory, signal);
    const left = await keepPlaced(staging, marker, await chooseOwner(dataDirectory, signal));
    if (left) return { outcome: undefined, removed: [], left };
  }
  return { outcome: undefined, ...(await takeBack(staging, marker)) };
}

/** Nothing was left to do but to make the last rename last. */
async function finishPlaced(staging: string, marker: Marker, result: string): Promise<Settled> {
  await syncFolder(join(marker.dataDirectory, "global"));
  await syncFolder(marker.dataDirectory);
  const taken = await takeBack(staging, { ...marker, state: "done" });
  return { outcome: fromJsonString(RestorePhysicalResultSchema, result), ...taken };
}

async function hasRecovered(dataDirectory: string): Promise<boolean> {
  return (await stat(join(dataDirectory, "recovery.signal")).catch(ignoreMissing)) === undefined;
}

/** Where its recovery has ended, as the server itself has written it down when it began its own timeline. */
async function sayEnd({ dataDirectory, expectedEnd = "" }: Marker): Promise<string> {
  const folder = join(dataDirectory, "pg_wal");
  const newest = (await readdir(folder))
    .filter((name) => /^[0-9A-F]{8}\.history$/.test(name))
    .toSorted()
    .at(-1);
  const content = newest === undefined ? "" : await readFile(join(folder, newest), "utf8");
  const begun = parseTimelineHistory(Number.parseInt(newest ?? "1", 16), content).ancestors.at(-1);
  if (!begun) return "Where its recovery ended is not known, and nobody has checked that it is the target";
  const where = `Its recovery ended at ${formatLsn(begun.endLsn)} (${begun.reason.replaceAll(/\p{Cc}/gu, " ").slice(0, 200)})`;
  if (expectedEnd === "") return `${where}; nobody has checked that this is the target`;
  if (begun.endLsn + recordSlack < parseLsn(expectedEnd))
    return `${where}, before ${expectedEnd}, which the plan had promised: it is not what was asked for, do not use it`;
  return `${where}; the plan had promised ${expectedEnd} at least; its settings were not checked`;
}

/** The agent's own way in goes, the rest stays as it is. */
async function keepRecovered(staging: string, marker: Marker, signal: AbortSignal): Promise<Settled> {
  const { dataDirectory, keptAs } = marker;
  if (await closeAccess(dataDirectory, await chooseOwner(dataDirectory, signal))) await reloadServer(dataDirectory);
  const { removed, left } = await takeBack(staging, { ...marker, state: "done" });
  const kept = keptAs === "" ? "" : `; what was there before is kept as ${keptAs}`;
  const recovered = `${dataDirectory}: its server came to the end of recovery after the restore was cut off, and somebody may use it, so it is left as it is. ${await sayEnd(marker)}${kept}`;
  return { outcome: undefined, removed, left: [...left, recovered] };
}
