import { rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dropSlot, passing } from "../support/ledger/disturb.ts";
import { type LedgerLab, openLedgerLab } from "../support/ledger/ledger-lab.ts";
import { pickTargets, proveArchive, proveRefused, type Reached } from "../support/ledger/prove.ts";
import { openRandom } from "../support/ledger/random.ts";
import { listFiles } from "../support/scenarios/files.ts";

// The soak does the same for half an hour, in an order that changes.
const random = openRandom(1);
const reached: Reached[] = [];
let lab: LedgerLab;
let firstUs: number;

beforeAll(async () => {
  lab = await openLedgerLab({ major: 18, clients: 4, random });
  firstUs = await lab.backup();
});
afterAll(() => lab?.[Symbol.asyncDispose]());

test("whatever dies under load, WAL is archived without a gap, as the server wrote it", async () => {
  for (const disturb of Object.values(passing)) {
    await disturb(lab, random);
    expect(await lab.truth.changed(lab.repository)).toEqual([]);
    await delay(random.number(500));
  }
  const { timeUs } = await lab.caughtUp();
  reached.push({ fromUs: firstUs, toUs: timeUs });
  await proveArchive(lab);
});

test("a slot that is dropped leaves a gap that is declared and refused, and a new full backup leads on behind it", async () => {
  await dropSlot(lab);
  expect(lab.lost).toHaveLength(1);
  const { timeUs } = await lab.caughtUp();
  reached.push({ fromUs: lab.lost[0]?.toUs ?? timeUs, toUs: timeUs });
  await lab.clients.end();
  await proveArchive(lab);
  await proveRefused(lab);
});

test("restored to a time or a position, every transaction before it is there, and none after it", async () => {
  const [first, ...others] = reached;
  if (first === undefined) throw new Error("nothing was archived");
  for (const target of pickTargets(lab, [first, ...others], random, 3))
    expect(await lab.restoreWrong(target), await lab.evidence()).toEqual([]);
});

test("WAL that was stored and is gone is missed before anything is restored", async () => {
  // It says no more that could take the place of what is removed here.
  await lab.server.stop();
  const planned = await lab.plan();
  expect(planned).toMatchObject({ code: 0 });
  const [, high = "", low = ""] = /replays WAL from \S+ to ([0-9A-F]+)\/([0-9A-F]+)/.exec(planned.said) ?? [];
  const inLast = ((BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)) - 1n;
  const hex = (part: bigint) => part.toString(16).toUpperCase().padStart(8, "0");
  const last = hex(inLast >> 32n) + hex((inLast & 0xffff_ffffn) >> 24n);
  const wal = (await listFiles(lab.repository)).filter((file) => /\/[0-9A-F]{24}[^/]*$/.test(file));
  const gone = wal.filter((file) => basename(file).slice(8, 24) >= last);
  expect(gone).not.toEqual([]);
  for (const file of gone) await rm(join(lab.repository, file));
  const { code, said } = await lab.plan();
  expect({ code, said }).toMatchObject({ said: expect.stringContaining("lacks WAL from") as string });
  expect(code).not.toBe(0);
});
