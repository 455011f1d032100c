import { appendFile, chown, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startRecovered } from "../../support/physical/recovered-server.ts";
import type { Bench, BenchRequest } from "../bench.ts";
import { digestData } from "../data.ts";
import { type Lab, openLab, subject } from "../lab.ts";
import { median, takeTurns } from "../measure.ts";
import { makeRow } from "../row.ts";
import { takeArguments } from "./backups.ts";
import { type Ground, memoryRow, openGround, requireDigest } from "./ground.ts";
import { archiveSettings, setArchiveCommand } from "./pgbackrest.ts";
import { startReceiving, waitStored } from "./received.ts";
import { openRestored } from "./restored.ts";
import { segmentsFor, writeWal } from "./write-wal.ts";

const name = "wal-replay";
const runs = 3;
const recoveredMs = 3_600_000;

/** Milliseconds that redo took, fetching included, as the server itself says in its log. */
async function redoMs(logFile: string): Promise<number> {
  const log = await readFile(logFile, "utf8");
  const seconds = /redo done at \S+ system usage: .*elapsed: ([\d.]+) s/.exec(log)?.[1];
  if (seconds === undefined) throw new Error(`the server does not say how long it replayed WAL:\n${log.slice(-2000)}`);
  return Number(seconds) * 1000;
}

/** The peer's folder of plain segments, filled by the server, and what it begins from. */
async function openPlainArchive(lab: Lab) {
  const [archive, base] = [lab.peerTarget("wal"), lab.peerTarget("base")];
  await mkdir(archive);
  const { uid, gid } = lab.server.owner;
  if (process.getuid?.() === 0) await chown(archive, uid, gid);
  await setArchiveCommand(
    lab,
    `cp %p ${archive}/%f.part && sync ${archive}/%f.part && mv ${archive}/%f.part ${archive}/%f`,
  );
  await lab.timeScript(`pg_basebackup --pgdata="$1" --checkpoint=fast; chown -R --reference="$2" "$1"`, base, archive);
  return { archive, base };
}

async function replayByCopy(
  lab: Lab,
  ground: Ground,
  { archive, base, digest }: { archive: string; base: string; digest: string },
): Promise<number> {
  const directory = ground.newDirectory();
  await lab.timeScript('cp -a "$1" "$2"', base, directory);
  const settings = [`restore_command = 'cp ${archive}/%f %p'`, "archive_mode = off"];
  await appendFile(join(directory, "postgresql.auto.conf"), settings.map((line) => `${line}\n`).join(""));
  await writeFile(join(directory, "recovery.signal"), "");
  await lab.settle();
  {
    await using restored = await startRecovered(lab.server, directory, recoveredMs);
    await requireDigest(restored, digest, directory);
  }
  const took = await redoMs(`${directory}.log`);
  await ground.remove(directory);
  return took;
}

async function replayByAgent(lab: Lab, ground: Ground, digest: string): Promise<number> {
  const directory = ground.newDirectory();
  await lab.settle();
  await using restored = await openRestored(lab, directory);
  await lab.cop.must(["restore", "create", subject, ...restored.arguments]);
  await requireDigest(restored, digest, directory);
  await restored.stop();
  const took = await redoMs(join(directory, "restore.log"));
  await ground.remove(directory);
  return took;
}

async function* run(request: BenchRequest) {
  const { say } = request;
  await using lab = await openLab(request, "folder", archiveSettings);
  const ground = await openGround(lab);
  await lab.cop.must(takeArguments("full"));
  await startReceiving(lab);
  const plain = await openPlainArchive(lab);
  const segments = segmentsFor(request);
  const end = await writeWal(lab, segments, request);
  const digest = await digestData(lab.server, subject);
  await waitStored(lab, { lsn: end });
  await lab.timeScript(
    'until psql -XAtqc "select last_archived_wal >= pg_walfile_name($1) from pg_stat_archiver" | grep -qx t; do sleep 0.2; done',
    `'${end}'`,
  );
  say(`${name}: ${segments} segments`);
  const taken = await takeTurns(
    {
      ours: () => replayByAgent(lab, ground, digest),
      cp: () => replayByCopy(lab, ground, { ...plain, digest }),
    },
    { runs, onRun: (who, number, ms) => say(`${name}: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`) },
  );
  const [ours, theirs] = [median(taken.ours) / 1000, median(taken.cp) / 1000];
  yield makeRow({ name, ours, peer: theirs, peerName: "cp", unit: "s", runs });
  yield await memoryRow(lab, name, runs);
}

/** How long a restored server replays archived WAL that the agent hands out. */
export const walReplay: Bench = {
  summary:
    "replay of archived WAL by coppice-wal, as the server measures it, against cp from a local folder; the agent's memory",
  run,
};
