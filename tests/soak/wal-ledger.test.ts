// One thing: archiving under load while everything around it dies, and what can be recovered afterwards.
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import type { LedgerMode } from "../support/ledger/archive-truth.ts";
import { dropSlot, outgrowSlot, passing, passingStores } from "../support/ledger/disturb.ts";
import { type LedgerLab, openLedgerLab } from "../support/ledger/ledger-lab.ts";
import type { LedgerStore } from "../support/ledger/ledger-store.ts";
import { pickTargets, proveArchive, proveRefused, proveWindow, type Reached } from "../support/ledger/prove.ts";
import { openRandom } from "../support/ledger/random.ts";

const minutes = Number(process.env["COPPICE_SOAK_MINUTES"] ?? 30);
const seed = Number(process.env["COPPICE_SOAK_SEED"] ?? 1);
const random = openRandom(seed);
/** Rounds with one cluster: it grows, and restores take longer. */
const mostRounds = 2;
/** Restores after each round. */
const targets = 10;
const processes = ["agent killed", "control plane killed"] as const;
const others = ["connections cut", "server stopped at once", "repository away", "segment ended"] as const;
const stores = [
  "store slow",
  "store hanging",
  "store answering 503",
  "store answering 500",
  "store cut off",
  "store's answers lost",
] as const;
const all = { ...passing, ...passingStores };

/** A life's cluster: how its WAL leaves it, and where to. The seed says which is first. */
interface Kind {
  readonly major: number;
  readonly mode: LedgerMode;
  readonly on: LedgerStore["kind"];
}

const kinds: readonly [Kind, ...Kind[]] = [
  { major: 18, mode: "stream", on: "folder" },
  { major: 17, mode: "push", on: "s3" },
  { major: 15, mode: "stream", on: "s3" },
  { major: 18, mode: "push", on: "folder" },
];

/** One or two things at once; gives their names. */
async function disturb(lab: LedgerLab): Promise<string> {
  const beside = lab.store.kind === "s3" && random.chance(0.5) ? random.pick(stores) : random.pick(others);
  const names = random.pick<(keyof typeof all)[]>([
    [random.pick(processes)],
    [...processes],
    [beside],
    [random.pick(processes), beside],
  ]);
  await Promise.all(names.map((name) => all[name](lab, random)));
  return names.join(" and ");
}

interface Listed {
  readonly backups: readonly { readonly id: string }[];
}

/** A backup during which something may die: it may fail, but one that succeeds is whole, and none other is listed. */
async function backupMeanwhile({ installation }: LedgerLab): Promise<() => Promise<string>> {
  const ids = async () => (await installation.json<Listed>(["backup", "list"])).backups.map(({ id }) => id);
  const before = await ids();
  const creating = installation.coppice(["backup", "create", "shop", "--kind", "full", "--wal", "embedded"]);
  return async () => {
    const { code } = await creating;
    const made = (await ids()).filter((id) => !before.includes(id));
    // The command may lose the control plane while the backup goes on.
    if (code === 0) expect(made).toHaveLength(1);
    for (const id of made) await installation.must(["backup", "verify", id, "--content"]);
    return `backup ended with ${code}, ${made.length} made`;
  };
}

/** One cluster's life: rounds of trouble, after each of them restores to random targets. */
async function runCluster(kind: Kind, end: number): Promise<void> {
  const did: string[] = [];
  const title = `PostgreSQL ${kind.major}, ${kind.mode} into ${kind.on}`;
  const note = (text: string) => {
    did.push(text);
    process.stdout.write(`soak: ${title}: ${text}\n`);
  };
  await using lab = await openLedgerLab({ ...kind, clients: 4, random });
  try {
    let fromUs = await lab.backup();
    const reached: Reached[] = [];
    for (let round = 1; round <= mostRounds && (round === 1 || performance.now() < end); round++) {
      const backup = random.chance(0.3) ? await backupMeanwhile(lab) : undefined;
      for (let count = 1 + random.number(4); count > 0; count--) {
        await delay(random.number(3000));
        note(await disturb(lab));
      }
      if (backup) note(await backup());
      const isGap = kind.mode === "stream" && random.chance(0.3);
      if (isGap) {
        const { timeUs } = await lab.caughtUp();
        reached.push({ fromUs, toUs: timeUs });
        const isDropped = random.chance(0.5);
        await (isDropped ? dropSlot(lab) : outgrowSlot(lab));
        fromUs = lab.lost.at(-1)?.toUs ?? timeUs;
        note(`slot ${isDropped ? "dropped" : "outgrown"}, and a full backup taken`);
      }
      const { timeUs } = await lab.caughtUp();
      const newest = { fromUs, toUs: timeUs };
      reached.push(newest);
      fromUs = timeUs;
      await proveArchive(lab);
      await proveRefused(lab);
      const ends = await proveWindow(lab, reached);
      const picked = [
        ...pickTargets(lab, [newest], random, targets / 2),
        ...pickTargets(lab, [newest, ...reached], random, targets / 2 - ends.length),
      ];
      for (const target of [...ends, ...picked]) expect(await lab.restoreWrong(target)).toEqual([]);
      note(`round ${round}: ${lab.clients.entries.length} transactions, ${targets} restores`);
    }
    // Killed or not, nothing said that the program itself is at fault.
    for (const file of lab.installation.logFiles()) expect(await readFile(file, "utf8")).not.toContain("INTERNAL");
    note(`${lab.lost.length} declared gaps`);
  } catch (error) {
    throw new Error(`seed ${seed}, ${title}: ${did.join(", ")}\n${await lab.evidence()}`, { cause: error });
  }
}

test(
  "whatever dies under load and when: what was committed is there at any time, and gaps are declared",
  // Rounds that have begun are ended, however starved the machine is.
  { timeout: (minutes + 60) * 60_000 },
  async () => {
    const end = performance.now() + minutes * 60_000;
    let clusters = 0;
    for (; clusters === 0 || performance.now() < end; clusters++)
      await runCluster(kinds[(seed + clusters) % kinds.length] ?? kinds[0], end);
    expect(clusters).toBeGreaterThan(0);
  },
);
