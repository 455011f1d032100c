import { expect } from "vitest";
import { type ArchiveStatus, type LedgerLab } from "./ledger-lab.ts";
import type { LedgerTarget } from "./judge.ts";
import type { Random } from "./random.ts";

/** Times that can be recovered to, in microseconds since 1970. */
export interface Reached {
  readonly fromUs: number;
  readonly toUs: number;
}

/** So many targets, times and positions by turns, that have to be reached: none lies in a gap that was declared. */
export function pickTargets(lab: LedgerLab, reached: readonly [Reached, ...Reached[]], random: Random, count: number) {
  return Array.from({ length: count }, (_, index): LedgerTarget => {
    const { fromUs, toUs } = random.pick(reached);
    const timeUs = Math.floor(fromUs + random.number(toUs - fromUs));
    if (index % 2 === 1) return { timeUs };
    const lsns = lab.clients.entries.flatMap((each) =>
      each.sentUs > fromUs && each.ackedUs !== undefined && each.ackedUs < toUs ? [each.sentLsn] : [],
    );
    const [first, ...others] = lsns;
    return first === undefined ? { timeUs } : { lsn: random.pick([first, ...others]) };
  });
}

/** Nothing that is said to be stored is missing or other than what the server wrote, and no gap is there but those made. */
export async function proveArchive(lab: LedgerLab): Promise<ArchiveStatus> {
  const status = await lab.status();
  const { extents = [], systemIdentifier = "" } = status;
  expect(extents).toHaveLength(lab.lost.length + 1);
  const place = { clusterId: lab.clusterId, systemIdentifier };
  const { repository, server } = lab;
  const { wrong, segments } = await lab.truth.compare({ repository, place, dataDir: server.dataDir, extents });
  expect(wrong).toEqual([]);
  expect(segments).toBeGreaterThan(0);
  expect(await lab.truth.changed(repository)).toEqual([]);
  return status;
}

/** Every gap is shown; a time that was surely lost is refused, and the nearest points on both of its sides are named. */
export async function proveRefused(lab: LedgerLab): Promise<void> {
  const shown = await lab.installation.must(["wal", "status", "shop"]);
  expect(shown.match(/^gap /gm)).toHaveLength(lab.lost.length);
  for (const { surelyUs } of lab.lost) {
    const { code, said } = await lab.plan({ timeUs: surelyUs });
    expect({ code, said }).toMatchObject({
      code: 4,
      said: expect.stringMatching(/what can be reached: before it \S+ on timeline \d+.*; after it \S+/) as string,
    });
  }
}
