import type { Bench, BenchRequest } from "../bench.ts";
import { openLab, subject } from "../lab.ts";
import { median, takeTurns } from "../measure.ts";
import { makeRow } from "../row.ts";
import { takeArguments } from "./backups.ts";
import { memoryRow, openGround } from "./ground.ts";
import { archiveSettings, openPgBackRest } from "./pgbackrest.ts";

const name = "base-restore";
const runs = 3;

async function* run(request: BenchRequest) {
  const { say } = request;
  await using lab = await openLab(request, "folder", archiveSettings);
  const ground = await openGround(lab);
  const peer = await openPgBackRest(lab, { isAsync: false });
  await lab.cop.must(takeArguments("full"));
  await peer.clear();
  await peer.archive(true);
  await lab.timeScript(`${peer.command} --type=full backup`);
  await peer.archive(false);

  const restored = (restore: (directory: string) => Promise<number>) => async () => {
    const directory = ground.newDirectory();
    await lab.settle();
    const took = await restore(directory);
    await ground.check(directory, lab.digest);
    return took;
  };
  const taken = await takeTurns(
    {
      ours: restored((directory) => lab.time(["restore", "create", subject, "--to", `db7:${directory}`])),
      pgbackrest: restored((directory) =>
        lab.timeScript(`${peer.command} --pg1-path="$1" --type=immediate --target-action=promote restore`, directory),
      ),
    },
    { runs, onRun: (who, number, ms) => say(`${name}: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`) },
  );
  const [ours, theirs] = [median(taken.ours) / 1000, median(taken.pgbackrest) / 1000];
  yield makeRow({ name, ours, peer: theirs, peerName: "pgbackrest", unit: "s", runs });
  yield await memoryRow(lab, name, runs);
}

/** How long it takes to make a data directory of a full backup. */
export const baseRestore: Bench = {
  summary:
    "coppice restore create --to HOST:/directory, the whole command, against pgBackRest's restore; the agent's memory",
  run,
};
