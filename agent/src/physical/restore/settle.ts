import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type {
  RestorePhysicalCommand,
  RestorePhysicalResult,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { chooseOwner } from "./owner.ts";
import { stopServer } from "./server.ts";
import { findServerPrograms } from "./server-programs.ts";
import { readMajor } from "../../postgres/control-data.ts";
import { dataStaging, type Marker, readMarker, readPidOf, takeBack } from "./staging.ts";

/** A restore whose answer was lost. */
export interface LostRestore {
  readonly command: RestorePhysicalCommand;
  readonly operationId: string;
  /** The result that it noted; undefined when it did not get that far. */
  readonly noted: RestorePhysicalResult | undefined;
  readonly signal: AbortSignal;
}

/** Stops the server that runs in a data directory, where one does. Fails where its programs are not here any more. */
export async function stopServerIn(dataDirectory: string, signal: AbortSignal): Promise<void> {
  const major = await readMajor(dataDirectory);
  if ((await readPidOf(dataDirectory)) === undefined || major === undefined) return;
  const user = await chooseOwner(dataDirectory, signal);
  const programs = await findServerPrograms(major, { isChain: false, user, signal });
  await stopServer({ data: dataDirectory, programs, user });
}

/**
 * How a restore ended whose answer was lost, by what it noted and what lies there: with a result it stays; without one
 * its server is stopped and all of it is taken back. Gives the result and what was removed.
 */
export async function settlePhysical({
  command: { dataDirectory },
  operationId,
  noted,
  signal,
}: LostRestore): Promise<{ outcome: RestorePhysicalResult | undefined; removed: string[] }> {
  const staging = await dataStaging(dataDirectory, operationId);
  const marker = await readMarker(staging);
  if (!marker) {
    const isThere = (await stat(staging).catch(() => undefined)) !== undefined;
    await rm(staging, { recursive: true, force: true });
    return { outcome: noted, removed: isThere && !noted ? [`the staging folder ${staging}`] : [] };
  }
  const ended: Marker = noted ? { ...marker, state: "done" } : marker;
  if (ended.state === "placing" && (marker.keptAs === "" || (await isMoved(marker))))
    await stopServerIn(dataDirectory, signal);
  return { outcome: noted, removed: await takeBack(staging, ended) };
}

async function isMoved({ keptAs }: Marker): Promise<boolean> {
  return (await stat(keptAs).catch(() => undefined)) !== undefined;
}

/**
 * Of an earlier run that was cut off after its server had come to the end of recovery, somebody may use the result since:
 * it is left as it is, and only forgotten. Gives what to tell people of it; undefined when there is none.
 */
export async function forgetRecovered(dataDirectory: string, operationId: string): Promise<string | undefined> {
  const staging = await dataStaging(dataDirectory, operationId);
  const marker = await readMarker(staging);
  const isThere = async (name: string) => (await stat(join(dataDirectory, name)).catch(() => undefined)) !== undefined;
  if (marker?.state !== "placing" || !(await isThere("global/pg_control")) || (await isThere("recovery.signal")))
    return undefined;
  await takeBack(staging, { ...marker, state: "done" });
  const kept = marker.keptAs === "" ? "" : `; what was there before is kept as ${marker.keptAs}`;
  return `the cluster in ${dataDirectory} has recovered since an earlier run was cut off, and is left as it is${kept}`;
}
