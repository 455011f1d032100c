import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { inTurn, replaceFile } from "../../journal/durable-file.ts";
import { setBackHint } from "../../repository/wal/set-back-failure.ts";
import type { WalEnd } from "./watch-wal-end.ts";

/** Where a server was refused, and with what. */
export interface Refusal extends WalEnd {
  readonly reason: "WAL_FOREIGN" | "WAL_CONFLICT";
}

const pathOf = (archiveFolder: string) => join(archiveFolder, "refused");
/** Each look at what is noted, and the change by it, is one. */
const turnOf = (archiveFolder: string) => `${pathOf(archiveFolder)} of each timeline`;

/**
 * Notes durably, in the folder of an archive, that the WAL of its server is not the archived one up to a position: that the
 * server comes past it, or drops what was refused, proves nothing. The first one of a timeline stays, and those of others.
 * Fails as the disk does.
 */
export async function noteRefusal(archiveFolder: string, refusal: Refusal): Promise<void> {
  await inTurn(turnOf(archiveFolder), async () => {
    const noted = await readRefusals(archiveFolder);
    if (noted.some(({ timeline }) => timeline === refusal.timeline)) return;
    await writeRefusals(archiveFolder, [...noted, refusal]);
  });
}

/** The refusal that stands on a timeline. Fails as the disk does. */
export async function readRefusal(archiveFolder: string, timeline: number): Promise<Refusal | undefined> {
  return (await readRefusals(archiveFolder)).find((one) => one.timeline === timeline);
}

/** Ends a refusal once the server's WAL up to a position was found to be the archived one. Fails as the disk does. */
export async function endRefusal(archiveFolder: string, { timeline, lsn }: WalEnd): Promise<void> {
  await inTurn(turnOf(archiveFolder), async () => {
    const noted = await readRefusals(archiveFolder);
    const left = noted.filter((one) => one.timeline !== timeline || one.lsn > lsn);
    if (left.length < noted.length) await writeRefusals(archiveFolder, left);
  });
}

async function readRefusals(archiveFolder: string): Promise<Refusal[]> {
  const text = await readFile(pathOf(archiveFolder), "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  });
  return text.split("\n").flatMap((line) => {
    const [, timeline, lsn = "", reason] = /^(\d+) ([0-9A-F/]+) (WAL_FOREIGN|WAL_CONFLICT)$/.exec(line) ?? [];
    if (reason !== "WAL_FOREIGN" && reason !== "WAL_CONFLICT") return [];
    return { timeline: Number(timeline), lsn: parseLsn(lsn), reason };
  });
}

async function writeRefusals(archiveFolder: string, refusals: readonly Refusal[]): Promise<void> {
  if (refusals.length === 0) return await rm(pathOf(archiveFolder), { force: true });
  const line = ({ timeline, lsn, reason }: Refusal) => `${timeline} ${formatLsn(lsn)} ${reason}\n`;
  await replaceFile(pathOf(archiveFolder), refusals.map(line).join(""));
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
