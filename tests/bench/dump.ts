import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Bench, BenchRequest } from "./bench.ts";
import { digestData } from "./data.ts";
import { type Lab, openLab, subject } from "./lab.ts";
import { median, takeTurns } from "./measure.ts";
import { makeRow } from "./row.ts";

const runs = 3;
/** What the agent may hold at most while it dumps. */
const goalBytes = 200e6;

/** The most resident memory that the agent has had since it started; the programs that it runs are not in it. */
async function peakBytes(lab: Lab): Promise<number> {
  const status = await readFile(`/proc/${lab.cop.agent("db7").pid}/status`, "utf8");
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kibibytes === undefined) throw new Error("the agent's status has no VmHWM");
  return Number(kibibytes) * 1024;
}

/** Ours counts only if a database restored from it has the same rows. */
async function checkOurs(lab: Lab): Promise<void> {
  const copy = `${subject}-check`;
  await lab.cop.must(["restore", "create", subject, "--database", subject, "--as", copy]);
  const digest = await digestData(lab.server, copy);
  if (digest !== lab.digest)
    throw new Error(`what was dumped is not what is there:\n${digest}\ninstead of\n${lab.digest}`);
}

async function* run(request: BenchRequest) {
  const { say } = request;
  await using lab = await openLab(request);
  const [zstdFile, gzipFile] = [join(lab.peerFolder, "bench.dump.zst"), join(lab.peerFolder, "bench.sql.gz")];
  const { ours, zstd, gzip } = await takeTurns(
    {
      async ours() {
        await lab.settle();
        return await lab.time(["backup", "create", subject]);
      },
      async zstd() {
        await rm(zstdFile, { force: true });
        await lab.settle();
        return await lab.timeScript(
          `pg_dump -Fc -Z0 -d ${subject} | zstd -q -3 -T0 > "$1"; sync "$1" "$2"`,
          zstdFile,
          lab.peerFolder,
        );
      },
      async gzip() {
        await rm(gzipFile, { force: true });
        await lab.settle();
        return await lab.timeScript(`pg_dump -d ${subject} | gzip > "$1"; sync "$1" "$2"`, gzipFile, lab.peerFolder);
      },
    },
    { runs, onRun: (who, number, ms) => say(`dump: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`) },
  );
  const peak = await peakBytes(lab);
  await checkOurs(lab);
  await lab.timeScript('zstd -q -t "$1"; gzip -t "$2"', zstdFile, gzipFile);

  const seconds = median(ours) / 1000;
  for (const [peerName, values] of Object.entries({ zstd, gzip })) {
    yield makeRow({ name: "dump", ours: seconds, peer: median(values) / 1000, peerName, unit: "s", runs });
  }
  yield makeRow({ name: "dump-rss", ours: peak, peer: goalBytes, peerName: "goal", unit: "bytes", runs });
}

/** How long a dump takes, and how much memory the agent needs for it. */
export const dump: Bench = {
  summary:
    "coppice backup create, the whole command, against pg_dump -Fc | zstd and pg_dump | gzip; the agent's memory",
  run,
};
