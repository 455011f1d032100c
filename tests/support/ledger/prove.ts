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
  const { store, server } = lab;
  await using storage = await store.open(AbortSignal.timeout(120_000));
  const { wrong, segments } = await lab.truth.compare({ storage, place, dataDir: server.dataDir, extents });
  expect(wrong).toEqual([]);
  expect(segments).toBeGreaterThan(0);
  expect(await lostOrWrittenAnew(lab)).toEqual([]);
  return status;
}

/** What of the WAL was seen before, and is gone or was written anew. */
export async function lostOrWrittenAnew({ truth, store }: LedgerLab): Promise<string[]> {
  return truth.changed(await store.portray());
}

const microseconds = (time: string | undefined) => {
  const [, fraction = ""] = /\.(\d+)Z$/.exec(time ?? "") ?? [];
  return Date.parse(time ?? "") * 1000 + Number(fraction.padEnd(6, "0").slice(3, 6));
};

/**
 * The window that is told holds every time that has to be reached, and its gaps are those that were made; what lies
 * outside is refused. Gives its ends, which can be reached too.
 */
export async function proveWindow(
  lab: LedgerLab,
  reached: readonly Reached[],
): Promise<readonly [LedgerTarget, LedgerTarget]> {
  const { startTime, endTime, gaps = [] } = await lab.window();
  const [fromUs, toUs] = [microseconds(startTime), microseconds(endTime)];
  for (const each of reached) {
    expect(fromUs).toBeLessThanOrEqual(each.fromUs);
    expect(toUs).toBeGreaterThanOrEqual(each.toUs);
  }
  expect(gaps).toHaveLength(lab.lost.length);
  const before = await lab.plan({ timeUs: fromUs - 1_000_000 });
  expect(before).toMatchObject({ code: 4 });
  const after = await lab.plan({ timeUs: Date.now() * 1000 + 600_000_000 });
  expect(after).toMatchObject({ code: 4 });
  return [{ timeUs: fromUs }, { timeUs: toUs }];
}

/** Every gap is shown; a time that was surely lost is refused, and the nearest points on both of its sides are named. */
export async function proveRefused(lab: LedgerLab): Promise<void> {
  const shown = await lab.installation.must(["wal", "status", "shop"]);
  expect(shown.match(/^gap /gm) ?? []).toHaveLength(lab.lost.length);
  for (const { surelyUs } of lab.lost) {
    const { code, said } = await lab.plan({ timeUs: surelyUs });
    expect({ code, said }).toMatchObject({
      code: 4,
      said: expect.stringMatching(/what can be reached: before it \S+ on timeline \d+.*; after it \S+/) as string,
    });
  }
}
