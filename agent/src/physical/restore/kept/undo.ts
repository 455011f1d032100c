import { rm } from "node:fs/promises";
import type { OsUser } from "../../../host/os-user.ts";
import { isOwnPlace } from "../directory/ownership.ts";
import { nameFormer, takeBack } from "../directory/take-back.ts";
import type { RestoreToDo } from "../restore.ts";
import { stopServer } from "../server.ts";
import type { ServerPrograms } from "../server-programs.ts";
import { type Marker, readMarker, type UnpackedBefore } from "../staging.ts";
import { keepPlaced, keepStaged } from "./keep.ts";

/** A staged data directory that is whole, and what another try has to know of it. */
export interface WholeUnpacked {
  readonly data: string;
  readonly told: UnpackedBefore;
}

/** A restore that did not come to its end. */
export interface Undone extends Pick<RestoreToDo, "command" | "onLeaving"> {
  readonly staging: string;
  readonly owner: OsUser;
  readonly programs: ServerPrograms;
  /** What is to be kept of it; undefined is nothing. */
  readonly unpacked: WholeUnpacked | undefined;
}

/**
 * Stops what runs and takes everything back, or keeps what was unpacked for another try; says what it could not, or where
 * that is. What others have put there is left alone.
 */
export async function undo({ command, onLeaving, staging, owner, programs, unpacked }: Undone): Promise<void> {
  let marker: Marker | undefined;
  try {
    marker = await readMarker(staging);
    if (!marker) return await rm(staging, { recursive: true, force: true });
    if (marker.state === "placing" && (await isOwnPlace(marker)))
      await stopServer({ data: marker.dataDirectory, programs, user: owner });
    if (unpacked && marker.state === "unpacking")
      return onLeaving(await keepStaged({ staging, data: unpacked.data }, marker, unpacked.told));
    const kept = unpacked && marker.state === "placing" ? await keepPlaced(staging, marker, owner) : undefined;
    for (const left of kept ?? (await takeBack(staging, marker)).left) onLeaving(left);
  } catch (error) {
    const why = error instanceof Error ? error.message : "";
    onLeaving(`what was restored into ${command.dataDirectory}, and ${staging}: ${why}`);
    for (const former of marker ? await nameFormer(marker) : []) onLeaving(former);
  }
}
