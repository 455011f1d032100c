import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openLog } from "@coppice/proto/kit/log";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { expect } from "vitest";
import { openBudget } from "../../../agent/src/budget.ts";
import { runArchive, type RunningArchive } from "../../../agent/src/wal/receive/archive.ts";
import { addExtent, type WalExtent } from "../../../agent/src/wal/store/extent.ts";
import type { PostgresServer } from "../postgres-servers.ts";
import type { ArchiveLab } from "./archive-lab.ts";

const patient = { timeout: 60_000, interval: 50 };
const log = openLog({ level: "error", name: "test" });
const segmentBytes = 16n << 20n;

/** Archiving as the agent does it, and all that it has told. */
export interface WatchedArchive extends RunningArchive, AsyncDisposable {
  /** The newest report; undefined before the first. */
  newest(): WalReport | undefined;
  /** What was told to be stored, in the order of timeline and position. */
  extents(): readonly WalExtent[];
  /** Ends of the server's WAL that were told with its time, "timeline LSN". */
  anchors(): readonly string[];
  /** Reasons of the trouble that was told, each once. */
  troubles(): readonly string[];
  /** Waits until everything before the position is told to be stored, without trouble. */
  stored(lsn: bigint): Promise<void>;
  /** Waits until trouble of that reason is told. */
  inTrouble(reason: string): Promise<void>;
}

/** Archives as the lab says, with its state in the lab's folder `state`; disposing of it ends it as an agent's end does. */
export function watchArchive(lab: ArchiveLab, state = "state"): WatchedArchive {
  const ending = new AbortController();
  const running = runArchive({
    archive: lab.archive,
    secret: lab.secret,
    folder: join(lab.folder, state),
    clientFiles: { home: "/nonexistent" },
    budget: openBudget(64 << 20),
    log,
    signal: ending.signal,
  });
  let newest: WalReport | undefined;
  let extents: WalExtent[] = [];
  const troubles = new Set<string>();
  const anchors = new Set<string>();
  const look = () => {
    const report = running.report();
    if (report === undefined) return newest;
    newest = report;
    running.acknowledge(report.number);
    if (report.trouble) troubles.add(report.trouble.reason);
    for (const { timeline, lsn } of report.anchors) anchors.add(`${timeline} ${lsn}`);
    for (const { timeline, startLsn, endLsn } of report.stored)
      extents = addExtent(extents, { timeline, startLsn: parseLsn(startLsn), endLsn: parseLsn(endLsn) });
    return newest;
  };
  return {
    ...running,
    newest: look,
    extents() {
      look();
      return extents;
    },
    anchors() {
      look();
      return [...anchors];
    },
    troubles() {
      look();
      return [...troubles];
    },
    async stored(lsn) {
      const state = () => {
        const { storedLsn = "", trouble } = look() ?? {};
        if (trouble) return `${trouble.reason}: ${trouble.message}`;
        return storedLsn !== "" && parseLsn(storedLsn) >= lsn ? "all" : `stored up to ${storedLsn}`;
      };
      await expect.poll(state, { ...patient, message: `stored up to ${formatLsn(lsn)}` }).toBe("all");
    },
    async inTrouble(reason) {
      await expect.poll(() => look()?.trouble?.reason, patient).toBe(reason);
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running.ended;
    },
  };
}

/** Waits until the archive has made its slot: what is written before is not its business. */
export async function receives(server: PostgresServer, slot = "archive"): Promise<void> {
  const active = `select count(*) from pg_replication_slots where slot_name = '${slot}' and active`;
  await expect.poll(() => server.sql("postgres", active), patient).toBe("1");
}

/** Where the segment ends that pg_switch_wal has ended by what it gave. Ended by others just before, it was that one. */
export function endOfSwitched(lsn: bigint, segmentBytes: bigint): bigint {
  const rest = lsn % segmentBytes;
  return rest === 0n ? lsn : lsn - rest + segmentBytes;
}

/** Writes so many segments, and gives the end of the last one. */
export async function writeSegments(server: PostgresServer, count = 1): Promise<bigint> {
  await server.sql("postgres", "create table if not exists load (id int, text text)");
  let end = 0n;
  for (let i = 0; i < count; i++) {
    await server.sql("postgres", "insert into load select id, md5(random()::text) from generate_series(1, 2000) id");
    end = parseLsn(await server.sql("postgres", "select pg_switch_wal()"));
  }
  return endOfSwitched(end, segmentBytes);
}

/** Every whole segment of the extent is in the archive as it is in the server's pg_wal; gives how many were compared. */
export async function expectSame(
  lab: ArchiveLab,
  server: PostgresServer,
  { timeline, startLsn, endLsn }: WalExtent,
): Promise<number> {
  let compared = 0;
  for (let lsn = startLsn - (startLsn % segmentBytes); lsn + segmentBytes <= endLsn; lsn += segmentBytes) {
    const name = segmentName(timeline, lsn, segmentBytes);
    const written = await readFile(join(server.dataDir, "pg_wal", name));
    expect((await lab.fetch(name))?.equals(written), name).toBe(true);
    compared++;
  }
  expect(compared).toBeGreaterThan(0);
  return compared;
}
