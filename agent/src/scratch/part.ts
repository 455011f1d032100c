import type { RecoverPartCommand } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { RestoreDatabaseCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { type Item, look } from "../host/look.ts";
import { lookAtTarget } from "../logical/look/before-source.ts";
import type { RestoreToPlan } from "../logical/plan.ts";
import type { PhysicalRestore, RestoreGround } from "../physical/restore/inspect.ts";
import type { ClientFiles } from "../postgres/endpoint.ts";
import { seeFile } from "./part-file.ts";
import { seeInto } from "./see-into.ts";
import { type ScratchPlaces, seeScratch } from "./scratch-folder.ts";

/** A part that is brought back, and what that is looked at with. */
export interface Part {
  readonly command: RecoverPartCommand;
  readonly places: ScratchPlaces;
  /** The restore into the scratch folder. */
  readonly restore: PhysicalRestore;
  /** The opened passwords, where the connections have some. */
  readonly targetPassword: string | undefined;
  readonly livePassword: string | undefined;
  readonly files: ClientFiles;
  readonly workFolder: string;
}

/** Whether it is a whole database. */
export function isWhole({ selection }: Part["command"]): boolean {
  return (selection?.tables.length ?? 0) + (selection?.schemas.length ?? 0) === 0;
}

/** The restore of the dump, as it is looked at and done. */
export function loadOf(
  { targetPassword, files, workFolder }: Pick<Part, "targetPassword" | "files" | "workFolder">,
  command: RestoreDatabaseCommand,
  signal: AbortSignal,
): RestoreToPlan {
  return { command, password: targetPassword, identities: undefined, files, storage: undefined, workFolder, signal };
}

/** What is looked at before anything is done, besides the restore of the cluster itself: where it all happens, and ends. */
export async function lookAtPart(part: Part, { chain: { major } }: RestoreGround): Promise<Item[]> {
  const { command, places, restore, targetPassword: password, files } = part;
  const { load, file } = command;
  const { signal } = restore;
  return [
    await look("scratch", signal, () => seeScratch(places, signal)),
    ...(file ? [await look("file", signal, () => seeFile(file.path))] : []),
    ...(load ? await lookAtTarget({ command: load, password, files, sourceMajor: major, signal }) : []),
    ...(await seeInto(part)),
  ];
}
