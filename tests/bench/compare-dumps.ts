import type { BenchRequest } from "./bench.ts";
import { digestData } from "./data.ts";
import { type Lab, openLab, type PlaceKind, subject } from "./lab.ts";
import { median, takeTurns } from "./measure.ts";
import { makeRow, type Row } from "./row.ts";

/** Another way to dump the benched database. */
export interface DumpPeer {
  readonly peerName: string;
  /** Name of what it writes; the scripts get its target as $1. */
  readonly target: string;
  /** Clears away what the run before has written; it is not timed. */
  readonly clear: string;
  readonly dump: string;
  /** Fails when what was written cannot be read. */
  readonly check: string;
}

/** What is compared. */
export interface DumpComparison {
  /** Name of the rows of times; the one of memory has -rss behind it. */
  readonly name: string;
  readonly place: PlaceKind;
  readonly peers: readonly DumpPeer[];
}

const runs = 3;
/** What the agent may hold at most while it dumps. */
const goalBytes = 200e6;

/** Ours counts only if a database restored from it has the same rows. */
async function checkOurs(lab: Lab): Promise<void> {
  const copy = `${subject}-check`;
  await lab.cop.must(["restore", "create", subject, "--database", subject, "--as", copy]);
  const digest = await digestData(lab.server, copy);
  if (digest !== lab.digest)
    throw new Error(`what was dumped is not what is there:\n${digest}\ninstead of\n${lab.digest}`);
}

/** Times our dump of the benched database and each peer's in turn; a row for each peer, and one of the agent's memory. */
export async function* compareDumps(
  request: BenchRequest,
  { name, place, peers }: DumpComparison,
): AsyncGenerator<Row, void> {
  const { say } = request;
  await using lab = await openLab(request, place);
  const settled = async (work: () => Promise<number>) => {
    await lab.settle();
    return await work();
  };
  const contestants = {
    ours: () => settled(() => lab.time(["backup", "create", subject])),
    ...Object.fromEntries(
      peers.map(({ peerName, target, clear, dump }) => [
        peerName,
        async () => {
          await lab.timeScript(clear, lab.peerTarget(target));
          return await settled(() => lab.timeScript(dump, lab.peerTarget(target)));
        },
      ]),
    ),
  };
  const { ours, ...taken } = await takeTurns<string>(contestants, {
    runs,
    onRun: (who, number, ms) => say(`${name}: ${who} ${number || "warm-up"}: ${(ms / 1000).toFixed(2)} s`),
  });
  const peak = await lab.peakBytes();
  await checkOurs(lab);
  for (const { target, check } of peers) await lab.timeScript(check, lab.peerTarget(target));

  const seconds = median(ours ?? []) / 1000;
  for (const { peerName } of peers) {
    const peer = median(taken[peerName] ?? []) / 1000;
    yield makeRow({ name, ours: seconds, peer, peerName, unit: "s", runs });
  }
  yield makeRow({ name: `${name}-rss`, ours: peak, peer: goalBytes, peerName: "goal", unit: "bytes", runs });
}
