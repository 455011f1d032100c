import { chmod, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import type { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { openLog } from "@coppice/proto/kit/log";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { expect } from "vitest";
import { openBudget } from "../../../agent/src/budget.ts";
import { pushSocketPath } from "../../../agent/src/wal/push/push-socket.ts";
import { runWalArchive } from "../../../agent/src/wal/push/run-archive.ts";
import type { RunningArchive } from "../../../agent/src/wal/receive/archive.ts";
import { addExtent, type WalExtent } from "../../../agent/src/wal/store/extent.ts";
import type { PostgresServer } from "../postgres-servers.ts";
import { type Ended, runProgram } from "../run-program.ts";
import type { ArchiveLab } from "./archive-lab.ts";
import { endOfSwitched } from "./running-archive.ts";

const log = openLog({ level: "error", name: "test" });

/** How long a condition is waited for, on a machine that does other things too. */
export const patient = { timeout: 60_000, interval: 100 };

/** Archives in a mode until it is disposed; `telling` gives the newest report, with everything that was told so far. */
export interface Archiving extends AsyncDisposable {
  readonly running: RunningArchive;
  telling(): WalReport | undefined;
}

/** Archives a server's WAL as an agent with its files in a folder would, in this process. */
export async function archiveBy(lab: ArchiveLab, mode: WalMode, folder = lab.folder): Promise<Archiving> {
  // The server's user has to come to the socket.
  await chmod(lab.folder, 0o711);
  if (lab.archive.settings) lab.archive.settings.mode = mode;
  const ending = new AbortController();
  const running = runWalArchive(
    {
      archive: lab.archive,
      secret: lab.secret,
      folder: join(folder, "state"),
      clientFiles: { home: "/nonexistent" },
      budget: openBudget(64 << 20),
      log,
      signal: ending.signal,
    },
    folder,
  );
  let last: WalReport | undefined;
  return {
    running,
    telling: () => (last = running.report() ?? last),
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running.ended;
    },
  };
}

/** Waits until the server hands its WAL to the agent, alone. */
export async function whenHanded(archiving: Archiving): Promise<void> {
  const state = () => {
    const archiver = archiving.telling()?.archiver;
    return archiver && [archiver.isCommandSet, archiver.isHandingOver];
  };
  await expect.poll(state, patient).toEqual([true, false]);
}

/** Some WAL, and the end of the last whole segment of it. */
export async function writeSegments(server: PostgresServer, count: number): Promise<bigint> {
  await server.sql("postgres", "create table if not exists load (id int, text text)");
  let end = 0n;
  for (let i = 0; i < count; i++) {
    await server.sql("postgres", "insert into load select id, md5(id::text) from generate_series(1, 3000) id");
    end = parseLsn(await server.sql("postgres", "select pg_switch_wal()"));
  }
  const size = BigInt(await server.sql("postgres", "select setting from pg_settings where name = 'wal_segment_size'"));
  return endOfSwitched(end, size);
}

/** Waits until everything before the position is reported as stored, and gives the newest report. */
export async function whenStored(archiving: Archiving, lsn: bigint): Promise<WalReport> {
  const storedLsn = () => parseLsn(archiving.telling()?.storedLsn || "0/0");
  await expect.poll(storedLsn, patient).toBeGreaterThanOrEqual(lsn);
  const report = archiving.telling();
  if (!report) throw new Error("no report");
  return report;
}

/** What is stored without a hole, as a report says. */
export function extentsOf(report: WalReport): WalExtent[] {
  return report.stored
    .map((run) => ({ timeline: run.timeline, startLsn: parseLsn(run.startLsn), endLsn: parseLsn(run.endLsn) }))
    .reduce<WalExtent[]>((extents, one) => addExtent(extents, one), []);
}

/** Compares what is stored with what the server has, segment by segment. */
export async function expectSame(lab: ArchiveLab, server: PostgresServer, run: WalExtent, size: bigint): Promise<void> {
  let compared = 0;
  for (let lsn = run.startLsn; lsn < run.endLsn; lsn += size) {
    const name = segmentName(run.timeline, lsn, size);
    const written = await readFile(join(server.dataDir, "pg_wal", name));
    expect((await lab.fetch(name))?.equals(written), name).toBe(true);
    compared++;
  }
  expect(compared).toBeGreaterThan(0);
}

/** Where an archive's agent takes WAL. */
export const socketOf = (lab: ArchiveLab) => pushSocketPath(join(lab.folder, "push", lab.archive.clusterId));

const shim = fileURLToPath(new URL("../../../deploy/debian/coppice-wal", import.meta.url));

/** Offers a file by coppice-wal, out of a directory as PostgreSQL would. */
export function offer(directory: string, socket: string, path: string): Promise<Ended> {
  return runProgram("sh", ["-c", 'cd "$1" && exec "$2" push "$3" "$4"', "sh", directory, shim, socket, path], {
    env: { PATH: process.env["PATH"], COPPICE_WAL_TRIES: "1" },
  });
}
