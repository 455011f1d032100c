import { create } from "@bufbuild/protobuf";
import {
  type RecoverPartCommand,
  type RecoverPartResult,
  RecoverPartResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { IntoProgress } from "../logical/into/transaction.ts";
import { settleRestore } from "../logical/settle.ts";
import type { ClientFiles } from "../postgres/endpoint.ts";
import { openDumped } from "./dump-out.ts";
import { loadOf } from "./part.ts";
import { settleFile, unfinishedFile } from "./part-file.ts";
import { removeScratch, removeServer, scratchPlaces } from "./scratch-folder.ts";

/** Work on a part whose answer was lost. */
export interface LostPart {
  readonly command: RecoverPartCommand;
  readonly operationId: string;
  readonly targetPassword: string | undefined;
  readonly files: ClientFiles;
  readonly workFolder: string;
  /** What it noted: its result, and how far the loading was. */
  readonly noted: RecoverPartResult | undefined;
  readonly stagedOid: number | undefined;
  readonly into: IntoProgress | undefined;
  readonly signal: AbortSignal;
}

async function settleOutcome(lost: LostPart, removed: string[]): Promise<RecoverPartResult | undefined> {
  const { command, operationId, noted, signal, stagedOid, into } = lost;
  const { load, file } = command;
  if (file) {
    const { isInPlace, isRemoved } = await settleFile(unfinishedFile(file.path, operationId), file.path);
    if (isRemoved) removed.push(`the unfinished file of ${file.path}`);
    return isInPlace || !isRemoved ? noted : undefined;
  }
  if (noted || !load) return noted;
  // Before the dump is whole nothing is loaded.
  const kept = await openDumped(scratchPlaces(command).dump, signal);
  if (!kept) return undefined;
  const settled = await settleRestore({ ...loadOf(lost, load, signal), source: kept.source, stagedOid, into });
  removed.push(...settled.removed);
  if (!settled.outcome) return undefined;
  const unknown = "the answer of the work was lost, and with it how the rows differed from the live ones";
  return create(RecoverPartResultSchema, { loaded: settled.outcome, warnings: [...kept.warnings, unknown] });
}

/**
 * How work on a part ended whose answer was lost: its server and its files go in any case, and what was put into place
 * stays. Gives the result and what was removed. Fails as settleRestore does, where the target cannot be asked.
 */
export async function settlePart(
  lost: LostPart,
): Promise<{ outcome: RecoverPartResult | undefined; removed: string[] }> {
  const places = scratchPlaces(lost.command);
  const removed: string[] = [];
  // Whatever else cannot be found out yet, the server is of no more use.
  await removeServer(places);
  const outcome = await settleOutcome(lost, removed);
  if (await removeScratch(places)) removed.push(`the scratch folder ${places.folder}`);
  return { outcome, removed };
}
