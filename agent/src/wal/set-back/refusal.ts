import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { replaceFile } from "../../journal/durable-file.ts";
import { setBackHint } from "../../repository/wal/set-back-failure.ts";
import type { WalEnd } from "./watch-wal-end.ts";

/** Where a server was refused, and with what. */
export interface Refusal extends WalEnd {
  readonly reason: "WAL_FOREIGN" | "WAL_CONFLICT";
}

const markName = "refused";

/**
 * Notes durably, in the folder of an archive, that the WAL of its server is not the archived one up to a position: that the
 * server comes past it, or drops what was refused, proves nothing. One that was noted of the timeline before stays. Fails as
 * the disk does.
 */
export async function noteRefusal(archiveFolder: string, { timeline, lsn, reason }: Refusal): Promise<void> {
  if (await readRefusal(archiveFolder, timeline)) return;
  await replaceFile(join(archiveFolder, markName), `${timeline} ${formatLsn(lsn)} ${reason}\n`);
}

/** The refusal that stands on a timeline. Fails as the disk does. */
export async function readRefusal(archiveFolder: string, timeline: number): Promise<Refusal | undefined> {
  const text = await readFile(join(archiveFolder, markName), "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  });
  const [, of, lsn = "", reason] = /^(\d+) ([0-9A-F/]+) (WAL_FOREIGN|WAL_CONFLICT)\n$/.exec(text) ?? [];
  if (Number(of) !== timeline || (reason !== "WAL_FOREIGN" && reason !== "WAL_CONFLICT")) return undefined;
  return { timeline, lsn: parseLsn(lsn), reason };
}

/** Ends a refusal once the server's WAL up to a position was found to be the archived one. Fails as the disk does. */
export async function endRefusal(archiveFolder: string, { timeline, lsn }: WalEnd): Promise<void> {
  const standing = await readRefusal(archiveFolder, timeline);
  if (standing && standing.lsn <= lsn) await rm(join(archiveFolder, markName), { force: true });
}

/** What is told while a refusal stands. */
export function refusalFailure({ timeline, lsn, reason }: Refusal): Failure {
  const where = `timeline ${timeline} before ${formatLsn(lsn)}`;
  return new Failure(
    reason,
    `the server had other WAL of ${where} than is archived, and has not shown since that it goes on from that`,
    { hint: setBackHint },
  );
}
