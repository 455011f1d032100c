import { appendFile, chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { startRecovered } from "../../support/physical/recovered-server.ts";
import { digestData } from "../data.ts";
import { type Lab, subject } from "../lab.ts";
import { makeRow, type Row } from "../row.ts";

/** Where data directories are restored to, and how it is seen that they are right. */
export interface Ground {
  /** Path of a directory that is not there, whose folder is the server's user's; another one with each call. */
  newDirectory(): string;
  /**
   * Starts a server in a restored directory, compares what is in it, and removes it; fails when it differs. The server
   * archives nowhere, whoever restored it. Gives what it logged while it recovered.
   */
  check(directory: string, digest: string): Promise<void>;
  /** Removes a restored directory in which no server runs. */
  remove(directory: string): Promise<void>;
}

/** What the agent may hold at most while it does physical work. */
const goalBytes = 250e6;
const recoveredMs = 3_600_000;

/** Fails when a restored server does not have the rows that it has to have. */
export async function requireDigest(
  server: Parameters<typeof digestData>[0],
  digest: string,
  directory: string,
): Promise<void> {
  const found = await digestData(server, subject);
  if (found !== digest)
    throw new Error(`what was restored into ${directory} is not what was there:\n${found}\ninstead of\n${digest}`);
}

/** Opens a folder for restored directories on the repositories' filesystem. */
export async function openGround({ cop, server }: Lab): Promise<Ground> {
  const folder = join(cop.folder, "restored");
  await mkdir(folder);
  if (process.getuid?.() === 0) await chown(folder, server.owner.uid, server.owner.gid);
  let count = 0;
  const remove = async (directory: string) => {
    await rm(directory, { recursive: true, force: true });
    await rm(`${directory}.log`, { force: true });
  };
  return {
    newDirectory: () => join(folder, String((count += 1))),
    async check(directory, digest) {
      await appendFile(join(directory, "postgresql.auto.conf"), "archive_mode = off\n");
      {
        await using restored = await startRecovered(server, directory, recoveredMs);
        await requireDigest(restored, digest, directory);
      }
      await remove(directory);
    },
    remove,
  };
}

/** The row of the agent's memory, the most that it has had since it started. */
export async function memoryRow(lab: Lab, name: string, runs: number): Promise<Row> {
  const ours = await lab.peakBytes();
  return makeRow({ name: `${name}-rss`, ours, peer: goalBytes, peerName: "goal", unit: "bytes", runs });
}
