import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Bench, BenchRequest } from "../bench.ts";
import { type Lab, openLab, type PlaceKind, subject } from "../lab.ts";
import { elapsedMs, median, takeTurns } from "../measure.ts";
import { makeRow } from "../row.ts";
import { memoryRow } from "./ground.ts";
import { archiveSettings, openPgBackRest, removeFromBucket, setArchiveCommand } from "./pgbackrest.ts";
import { segmentsFor, writeWal } from "./write-wal.ts";

const runs = 3;
const goalMs = 50;
const segmentBytes = 16 << 20;
/** Segments a second, for so long, and how many of them may wait at its end. */
const load = { rate: 3, seconds: 20, mostBehind: 3 };
const nobody = "false";

const statusFolder = ({ server }: Lab) => join(server.dataDir, "pg_wal/archive_status");

/** What waits to be archived. */
async function ready(lab: Lab): Promise<string[]> {
  const marks = await readdir(statusFolder(lab));
  return marks.flatMap((mark) => (mark.endsWith(".ready") ? [mark.slice(0, -".ready".length)] : []));
}

/** Has the server offer these once more. */
async function offerAgain(lab: Lab, names: readonly string[]): Promise<void> {
  for (const each of names) {
    const mark = join(statusFolder(lab), each);
    // One whose mark is still there was never archived.
    await rename(`${mark}.done`, `${mark}.ready`).catch(() => undefined);
  }
  const waiting = await ready(lab);
  const lost = names.filter((each) => !waiting.includes(each));
  if (lost.length > 0) throw new Error(`not offered again: ${lost.join(", ")}`);
}

/** Milliseconds from the command that archives to the last of the queue. */
async function drain(lab: Lab, command: string): Promise<number> {
  await lab.settle();
  const took = await elapsedMs(async () => {
    await setArchiveCommand(lab, command);
    while ((await ready(lab)).length > 0) await delay(20);
  });
  await setArchiveCommand(lab, nobody);
  return took;
}

/** The command that hands WAL to the agent, which has set it. */
async function setUp({ cop }: Lab): Promise<string> {
  await cop.must(["wal", "setup", subject, "--mode", "push", "--to", "main", "--max-age", "1h"]);
  const { archiver } = await cop.json<{ archiver: { command: string } }>(["wal", "status", subject]);
  return archiver.command;
}

/** Removes what is archived, and leaves the agent's knowledge of it as it is. */
async function forget({ cop, bucket, timeScript }: Lab): Promise<void> {
  if (bucket)
    return void (await timeScript(`${removeFromBucket} --exclude '*' --include '*/wal/*'`, bucket.url("ours/")));
  const repository = join(cop.folder, "repository");
  for (const cluster of await readdir(repository))
    await rm(join(repository, cluster, "wal"), { recursive: true, force: true });
}

/** Bytes that wait at the end of a steady load. */
async function backlog(lab: Lab, command: string): Promise<number> {
  await setArchiveCommand(lab, command);
  await lab.server.sql(subject, "create table if not exists pushed (id int, text text)");
  // About 1 MiB of WAL, which does not compress better than pages do.
  const script =
    "insert into pushed select i, md5(i::text || random()) || repeat('coppice', 30) from generate_series(1, 3200) i;";
  const rate = (load.rate * segmentBytes) / 2 ** 20;
  await lab.timeScript(
    `pgbench --no-vacuum --client=2 --time=${load.seconds} --rate=${rate} --file=<(echo "$1") ${subject}`,
    script,
  );
  const behind = (await ready(lab)).length * segmentBytes;
  while ((await ready(lab)).length > 0) await delay(100);
  return behind;
}

async function* run(request: BenchRequest, { name, place }: { name: string; place: PlaceKind }) {
  const { say } = request;
  await using lab = await openLab(request, place, { ...archiveSettings, wal_keep_size: "16GB" });
  const command = await setUp(lab);
  const peer = await openPgBackRest(lab, { isAsync: true });
  await setArchiveCommand(lab, nobody);
  await writeWal(lab, segmentsFor(request), request);
  const names = (await ready(lab)).filter((each) => /^[0-9A-F]{24}$/.test(each));
  say(`${name}: ${names.length} segments`);
  const taken = await takeTurns(
    {
      async ours() {
        await forget(lab);
        await offerAgain(lab, names);
        return await drain(lab, command);
      },
      async pgbackrest() {
        await peer.clear();
        await rm(join(lab.cop.folder, "pgbackrest", "spool"), { recursive: true, force: true });
        await offerAgain(lab, names);
        return await drain(lab, peer.archiveCommand);
      },
    },
    { runs, onRun: (who, number, ms) => say(`${name}: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`) },
  );
  const [ours, theirs] = [median(taken.ours), median(taken.pgbackrest)];
  yield makeRow({ name, ours: ours / 1000, peer: theirs / 1000, peerName: "pgbackrest", unit: "s", runs });
  yield makeRow({
    name: `${name}-segment`,
    ours: ours / names.length,
    peer: goalMs,
    peerName: "goal",
    unit: "ms",
    runs,
  });
  const behind: number[] = [];
  for (let number = 0; number < runs; number++) behind.push(await backlog(lab, command));
  yield makeRow({
    name: `${name}-behind`,
    ours: median(behind),
    peer: load.mostBehind * segmentBytes,
    peerName: "goal",
    unit: "bytes",
    runs,
  });
  yield await memoryRow(lab, name, runs);
}

const summary = "a queue of full segments drained by coppice-wal, against pgbackrest archive-push async";

/** How fast a queue of full segments is archived by archive_command, and how far behind a steady load it is. */
export const walPush: Bench = {
  summary: `${summary}; what waits at three a second`,
  run: (request) => run(request, { name: "wal-push", place: "folder" }),
};

/** The same into a bucket. */
export const walPushS3: Bench = {
  summary: `${summary}, both into a bucket`,
  run: (request) => run(request, { name: "wal-push-s3", place: "s3" }),
};
