import { rm, stat } from "node:fs/promises";
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

async function stopIn(dataDirectory: string, signal: AbortSignal): Promise<void> {
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
    await rm(staging, { recursive: true, force: true });
    return { outcome: noted, removed: [] };
  }
  const ended: Marker = noted ? { ...marker, state: "done" } : marker;
  if (ended.state === "placing" && (marker.keptAs === "" || (await isMoved(marker))))
    await stopIn(dataDirectory, signal);
  return { outcome: noted, removed: await takeBack(staging, ended) };
}

async function isMoved({ keptAs }: Marker): Promise<boolean> {
  return (await stat(keptAs).catch(() => undefined)) !== undefined;
}
