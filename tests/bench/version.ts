import { dirname, join } from "node:path";
import { findPrograms } from "../support/programs.ts";
import type { Bench, BenchRequest } from "./bench.ts";
import { elapsedMs, median, takeTurns } from "./measure.ts";
import { makeRow } from "./row.ts";
import { runChecked } from "./run-checked.ts";

const runs = 21;

async function* run({ signal, say }: BenchRequest) {
  const { coppice } = findPrograms();
  const node = join(dirname(coppice), "../lib/coppice/bin/node");
  const env = { PATH: process.env["PATH"], HOME: process.env["HOME"] };
  const { ours, peer } = await takeTurns(
    {
      async ours() {
        let answer = "";
        const took = await elapsedMs(async () => (answer = await runChecked(coppice, ["--version"], { env, signal })));
        if (!/^coppice \d/.test(answer)) throw new Error(`coppice --version answers ${JSON.stringify(answer)}`);
        return took;
      },
      peer: () => elapsedMs(() => runChecked(node, ["-e", "0"], { env, signal })),
    },
    { runs },
  );
  say(`version: ours ${Math.min(...ours).toFixed(1)} … ${Math.max(...ours).toFixed(1)} ms`);
  yield makeRow({ name: "version", ours: median(ours), peer: median(peer), peerName: "node -e 0", unit: "ms", runs });
}

/** How long the CLI takes to start. */
export const version: Bench = {
  summary: "coppice --version against node -e 0, both of the installed tree (goal: 1.5 times)",
  run,
};
