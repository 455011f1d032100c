// One thing: archiving under load while everything around it dies, and what can be recovered afterwards.
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { dropSlot, outgrowSlot, passing } from "../support/ledger/disturb.ts";
import { type LedgerLab, openLedgerLab } from "../support/ledger/ledger-lab.ts";
import { pickTargets, proveArchive, proveRefused, type Reached } from "../support/ledger/prove.ts";
import { openRandom } from "../support/ledger/random.ts";

const minutes = Number(process.env["COPPICE_SOAK_MINUTES"] ?? 30);
const seed = Number(process.env["COPPICE_SOAK_SEED"] ?? 1);
const random = openRandom(seed);
/** Rounds with one cluster: it grows, and restores take longer. */
const mostRounds = 5;
const targets = 10;
const processes = ["agent killed", "control plane killed"] as const;
const others = ["connections cut", "server stopped at once", "repository away", "segment ended"] as const;

/** One or two things at once; gives their names. */
async function disturb(lab: LedgerLab): Promise<string> {
  const names = random.pick([
    [random.pick(processes)],
    processes,
    [random.pick(others)],
    [random.pick(processes), random.pick(others)],
  ]);
  await Promise.all(names.map((name) => passing[name](lab, random)));
  return names.join(" and ");
}

/** A backup during which something may die: it may fail, but what it leaves counts for restores like any other. */
async function backupMeanwhile({ installation }: LedgerLab): Promise<string> {
  const { code } = await installation.coppice(["backup", "create", "shop", "--kind", "full", "--wal", "embedded"]);
  return `backup ended with ${code}`;
}

/** One cluster's life: rounds of trouble, then restores to random targets. */
async function runCluster(major: number, end: number): Promise<void> {
  const did: string[] = [];
  const note = (text: string) => {
    did.push(text);
    process.stdout.write(`soak: PostgreSQL ${major}: ${text}\n`);
  };
  await using lab = await openLedgerLab({ major, clients: 4, random });
  try {
    let fromUs = await lab.backup();
    const reached: Reached[] = [];
    for (let round = 1; round <= mostRounds && (round === 1 || performance.now() < end); round++) {
      const backup = random.chance(0.3) ? backupMeanwhile(lab) : undefined;
      for (let count = 1 + random.number(4); count > 0; count--) {
        await delay(random.number(3000));
        note(await disturb(lab));
      }
      if (backup) note(await backup);
      const { timeUs } = await lab.caughtUp();
      reached.push({ fromUs, toUs: timeUs });
      await proveArchive(lab);
      if (random.chance(0.3)) {
        const isDropped = random.chance(0.5);
        await (isDropped ? dropSlot(lab) : outgrowSlot(lab));
        fromUs = lab.lost.at(-1)?.toUs ?? timeUs;
        note(`slot ${isDropped ? "dropped" : "outgrown"}, and a full backup taken`);
      } else fromUs = timeUs;
    }
    const { timeUs } = await lab.caughtUp();
    const last = { fromUs, toUs: timeUs };
    await proveArchive(lab);
    await proveRefused(lab);
    for (const target of pickTargets(lab, [last, ...reached], random, targets))
      expect(await lab.restoreWrong(target)).toEqual([]);
    // Killed or not, nothing said that the program itself is at fault.
    for (const file of lab.installation.logFiles()) expect(await readFile(file, "utf8")).not.toContain("INTERNAL");
    note(`${lab.clients.entries.length} transactions, ${targets} restores, ${lab.lost.length} declared gaps`);
  } catch (error) {
    throw new Error(`seed ${seed}, PostgreSQL ${major}: ${did.join(", ")}\n${await lab.evidence()}`, { cause: error });
  }
}

test(
  "whatever dies under load and when: what was committed is there at any time, and gaps are declared",
  { timeout: (minutes + 15) * 60_000 },
  async () => {
    const end = performance.now() + minutes * 60_000;
    let clusters = 0;
    for (; clusters === 0 || performance.now() < end; clusters++) await runCluster(clusters % 2 === 0 ? 18 : 15, end);
    expect(clusters).toBeGreaterThan(0);
  },
);
