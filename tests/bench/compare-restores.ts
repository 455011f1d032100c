import type { BenchRequest } from "./bench.ts";
import { digestData } from "./data.ts";
import { type Lab, openLab, type PlaceKind, subject } from "./lab.ts";
import { median, takeTurns } from "./measure.ts";
import { makeRow, type Row } from "./row.ts";

/** Another way to restore the benched database out of an archive of its own. */
export interface RestorePeer {
  readonly peerName: string;
  /** Connections at the same time, ours and the peer's. */
  readonly jobs: number;
  /** Gets the archive as $1, the new database as $2 and as $3 the path of a plain archive that it may make. */
  readonly script: string;
}

/** What is compared. */
export interface RestoreComparison {
  /** Name of the rows. */
  readonly name: string;
  readonly place: PlaceKind;
  /** Writes a dump's compressed archive from its stdin to where the peers read it, $1. */
  readonly store: string;
  readonly peers: readonly RestorePeer[];
}

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

/** The two sides of one comparison. */
function sides(lab: Lab, { jobs, script }: RestorePeer, archive: string) {
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
      const plain = `${lab.cop.folder}/bench.dump`;
      const took = await restored(lab, copy, () => lab.timeScript(script, archive, copy, plain));
      await lab.timeScript('rm -f "$1"', plain);
      return took;
    },
  };
}

/** Times our restore of the benched database and each peer's in turn; a row for each peer. */
export async function* compareRestores(
  request: BenchRequest,
  { name, place, store, peers }: RestoreComparison,
): AsyncGenerator<Row, void> {
  const { say } = request;
  await using lab = await openLab(request, place);
  const archive = lab.peerTarget("bench.dump.zst");
  await lab.cop.must(["backup", "create", subject]);
  await lab.timeScript(`pg_dump -Fc -Z0 -d ${subject} | zstd -q -3 -T0 | ${store}`, archive);
  for (const peer of peers) {
    const { peerName, jobs } = peer;
    const taken = await takeTurns(sides(lab, peer, archive), {
      runs,
      onRun: (who, number, ms) => {
        const contestant = who === "peer" ? peerName : `ours, ${jobs} jobs`;
        say(`${name}: ${contestant} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`);
      },
    });
    const [ours, theirs] = [median(taken.ours) / 1000, median(taken.peer) / 1000];
    yield makeRow({ name, ours, peer: theirs, peerName, unit: "s", runs });
  }
}
