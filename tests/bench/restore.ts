import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Bench, BenchRequest } from "./bench.ts";
import { digestData } from "./data.ts";
import { type Lab, openLab, subject } from "./lab.ts";
import { median, takeTurns } from "./measure.ts";
import { makeRow } from "./row.ts";

const runs = 3;

/** Times one restore into a new database, which has to equal the source and is dropped afterwards. */
async function restored(lab: Lab, database: string, work: () => Promise<number>): Promise<number> {
  await lab.settle();
  const took = await work();
  const digest = await digestData(lab.server, database);
  if (digest !== lab.digest)
    throw new Error(`${database} differs from its source:\n${digest}\ninstead of\n${lab.digest}`);
  await lab.server.sql("postgres", `drop database "${database}"`);
  return took;
}

/** The two sides of one comparison: the same number of jobs, the peer by this script on ($1) archive, ($2) database. */
function sides(lab: Lab, { jobs, archive, script }: { jobs: number; archive: string; script: string }) {
  let count = 0;
  return {
    ours() {
      const copy = `ours-${jobs}-${(count += 1)}`;
      const args = ["restore", "create", subject, "--database", subject, "--as", copy, "--jobs", String(jobs)];
      return restored(lab, copy, () => lab.time(args));
    },
    async peer() {
      const copy = `peer-${jobs}-${(count += 1)}`;
      await lab.server.sql("postgres", `create database "${copy}" template template0`);
      const plain = join(lab.peerFolder, "bench.dump");
      const took = await restored(lab, copy, () => lab.timeScript(script, archive, copy, plain));
      await rm(plain, { force: true });
      return took;
    },
  };
}

const peers = [
  { peerName: "pg_restore pipe", jobs: 1, script: 'zstd -q -d -c "$1" | pg_restore --exit-on-error -d "$2"' },
  {
    peerName: "pg_restore -j",
    jobs: 2,
    script: 'zstd -q -d -o "$3" "$1" && pg_restore --exit-on-error -j 2 -d "$2" "$3"',
  },
];

async function* run(request: BenchRequest) {
  const { say } = request;
  await using lab = await openLab(request);
  const archive = join(lab.peerFolder, "bench.dump.zst");
  await lab.cop.must(["backup", "create", subject]);
  await lab.timeScript(`pg_dump -Fc -Z0 -d ${subject} | zstd -q -3 -T0 > "$1"`, archive);
  for (const { peerName, jobs, script } of peers) {
    const { ours, peer } = await takeTurns(sides(lab, { jobs, archive, script }), {
      runs,
      onRun: (who, number, ms) =>
        say(
          `restore: ${who === "peer" ? peerName : `ours, ${jobs} jobs`} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`,
        ),
    });
    yield makeRow({ name: "restore", ours: median(ours) / 1000, peer: median(peer) / 1000, peerName, unit: "s", runs });
  }
}

/** How long a restore beside the original takes. */
export const restore: Bench = {
  summary: "coppice restore create, the whole command, against zstd -d | pg_restore and pg_restore -j 2 from a file",
  run,
};
