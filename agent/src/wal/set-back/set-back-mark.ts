import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Failure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { Logger } from "pino";
import { replaceFile } from "../../journal/durable-file.ts";
import { noteRefusal } from "./refusal.ts";

const markName = "set-back";

/** Whether a failure of archiving says that the server is not the one any more whose WAL is archived. */
function saysSetBack(trouble: Failure | undefined): boolean {
  return trouble?.reason === "WAL_FOREIGN" || trouble?.reason === "WAL_CONFLICT";
}

/**
 * Notes a set-back by the failure that has shown it, once for as long as it is the same trouble, and that a server whose WAL
 * ends before what is archived is refused. Trouble with the disk is logged.
 */
export async function noteNewSetBack(
  archiveFolder: string,
  trouble: { readonly before: Failure | undefined; readonly now: Failure; readonly log: Pick<Logger, "error"> },
): Promise<void> {
  const cannot = (error: unknown) =>
    trouble.log.error({ err: error }, "that the server was set back could not be noted");
  const { timeline, archivedLsn } = trouble.now.metadata;
  if (timeline !== undefined && archivedLsn !== undefined)
    await noteRefusal(archiveFolder, {
      timeline: Number(timeline),
      lsn: parseLsn(archivedLsn),
      reason: "WAL_FOREIGN",
    }).catch(cannot);
  if (!saysSetBack(trouble.now) || saysSetBack(trouble.before)) return;
  await noteSetBack(archiveFolder).catch(cannot);
}

/**
 * Notes durably, in the folder of an archive, that its server was found now to be set back, or to be a copy: the blocks
 * that it has need not follow from what was backed up before. Fails as the disk does.
 */
export async function noteSetBack(archiveFolder: string): Promise<void> {
  await replaceFile(join(archiveFolder, markName), `${new Date().toISOString()}\n`);
}

/**
 * When a server was last found to be set back, by any archive of it below the folder of this host's archives; undefined
 * when it never was, as far as is known here. A mark that cannot be read counts as one of now.
 */
export async function readSetBack(
  walFolder: string,
  { clusterId, systemIdentifier }: { readonly clusterId: string; readonly systemIdentifier: string },
): Promise<Date | undefined> {
  const times: number[] = [];
  for (const name of await orNothing(() => readdir(walFolder), [])) {
    if (!name.startsWith(`${clusterId}_${systemIdentifier}_`)) continue;
    const text = await orNothing(() => readFile(join(walFolder, name, markName), "utf8"), undefined);
    if (text === undefined) continue;
    const time = Date.parse(text.trim());
    times.push(Number.isNaN(time) ? Date.now() : time);
  }
  return times.length === 0 ? undefined : new Date(Math.max(...times));
}

async function orNothing<T>(read: () => Promise<T>, nothing: T): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return nothing;
    throw error;
  }
}
