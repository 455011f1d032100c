// One thing: rounds of work that kill -9 interrupts at moments nobody chose, and what must hold after each.
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { lastLines } from "../support/background.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { type KillLab, openKillLab, type Operation, type Protected } from "../support/scenarios/kill-lab.ts";
import { openRandom } from "../support/ledger/random.ts";

/** A backup that was reported as good, and what its database looked like. */
interface Good {
  readonly id: string;
  readonly portrait: string;
}

/** One piece of work of a round: how it ended decides what must be seen. */
interface Work {
  readonly what: string;
  readonly operation: string;
  check(ended: Operation): Promise<void>;
}

const minutes = Number(process.env["COPPICE_SOAK_MINUTES"] ?? 30);
const seed = Number(process.env["COPPICE_SOAK_SEED"] ?? 1);
const random = openRandom(seed);
const good = new Map<string, Good[]>();
const copy = "soak_copy";
const mostBackups = 5;
let lab: KillLab;

beforeAll(async () => {
  lab = await openKillLab();
  for (const cluster of lab.clusters) {
    good.set(cluster.cluster, []);
    await takeBackup(cluster);
  }
});
afterAll(() => lab?.[Symbol.asyncDispose]());

const goodOf = ({ cluster }: Protected) => good.get(cluster) ?? [];
const begin = async (method: string, request: object) => (await lab.installation.call<Operation>(method, request)).id;
const hasSucceeded = ({ state }: Operation) => state === "OPERATION_STATE_SUCCEEDED";

/** An operation that nothing interrupts. */
async function mustSucceed(method: string, request: object): Promise<Operation> {
  const ended = await lab.ended(await begin(method, request));
  if (!hasSucceeded(ended)) throw new Error(`${method}, not interrupted, ended as ${JSON.stringify(ended)}`);
  return ended;
}

async function databasesOf({ server }: Protected): Promise<string[]> {
  return (await server.sql("postgres", "select datname from pg_database")).split("\n");
}

const drop = ({ server }: Protected, database: string) => server.sql("postgres", `drop database "${database}"`);

/** What a database looks like under the name `shop`. */
async function portrayAsShop({ server }: Protected, database: string): Promise<string> {
  return (await portrayDatabase(server, database)).replaceAll(database, "shop");
}

/** A backup that was reported as good is good: every digest matches, and what is restored from it is what was dumped. */
async function expectRestorable(cluster: Protected, { id, portrait }: Good): Promise<void> {
  await mustSucceed("BackupService/VerifyBackup", { backup: id });
  const restore = { cluster: cluster.cluster, backup: id, database: "shop", targetDatabase: copy };
  await mustSucceed("RestoreService/CreateRestore", { restore });
  expect(await portrayAsShop(cluster, copy)).toBe(portrait);
  await drop(cluster, copy);
}

async function takeBackup(cluster: Protected): Promise<void> {
  const portrait = await portrayDatabase(cluster.server, "shop");
  const { createBackup } = await mustSucceed("BackupService/CreateBackup", { cluster: cluster.cluster });
  goodOf(cluster).push({ id: createBackup?.backup ?? "", portrait });
}

async function backup(cluster: Protected): Promise<Work> {
  const { server, cluster: name } = cluster;
  const portrait = await portrayDatabase(server, "shop");
  const before = await lab.backupIds();
  const operation = await begin("BackupService/CreateBackup", { cluster: name });
  return {
    what: `backup of ${name}`,
    operation,
    async check(ended) {
      expect(await portrayDatabase(server, "shop")).toBe(portrait);
      const id = ended.createBackup?.backup ?? "";
      const made = (await lab.backupIds()).filter((each) => !before.includes(each));
      if (!hasSucceeded(ended)) return expect(made).not.toContain(id);
      expect(made).toContain(id);
      goodOf(cluster).push({ id, portrait });
      await expectRestorable(cluster, { id, portrait });
    },
  };
}

async function verify(cluster: Protected, { id, portrait }: Good): Promise<Work> {
  const operation = await begin("BackupService/VerifyBackup", { backup: id });
  const check = () => expectRestorable(cluster, { id, portrait });
  return { what: `verify of ${cluster.cluster}`, operation, check };
}

async function restore(cluster: Protected, { id, portrait }: Good): Promise<Work> {
  const request = { cluster: cluster.cluster, backup: id, database: "shop", targetDatabase: copy };
  const original = await portrayDatabase(cluster.server, "shop");
  const operation = await begin("RestoreService/CreateRestore", { restore: request });
  return {
    what: `restore in ${cluster.cluster}`,
    operation,
    async check(ended) {
      expect(await portrayDatabase(cluster.server, "shop")).toBe(original);
      if (!hasSucceeded(ended)) return expect(await databasesOf(cluster)).not.toContain(copy);
      expect(await portrayAsShop(cluster, copy)).toBe(portrait);
      await drop(cluster, copy);
    },
  };
}

async function swap(cluster: Protected, { id, portrait }: Good): Promise<Work> {
  const request = { cluster: cluster.cluster, backup: id, database: "shop", replace: true };
  const original = await portrayDatabase(cluster.server, "shop");
  const operation = await begin("RestoreService/CreateRestore", { restore: request });
  return {
    what: `swap in ${cluster.cluster}`,
    operation,
    async check(ended) {
      const kept = ended.createRestore?.keptDatabase ?? "";
      if (!hasSucceeded(ended)) {
        expect(await portrayDatabase(cluster.server, "shop")).toBe(original);
        return expect(await databasesOf(cluster)).not.toContain(kept);
      }
      expect(await portrayDatabase(cluster.server, "shop")).toBe(portrait);
      expect(await portrayAsShop(cluster, kept)).toBe(original);
      await drop(cluster, kept);
    },
  };
}

async function remove(cluster: Protected, chosen: Good): Promise<Work> {
  const operation = await begin("BackupService/DeleteBackup", { backup: chosen.id });
  return {
    what: `delete in ${cluster.cluster}`,
    operation,
    async check(ended) {
      if (!hasSucceeded(ended)) return await expectRestorable(cluster, chosen);
      expect(await lab.backupIds()).not.toContain(chosen.id);
      expect((await listFiles(lab.repository)).filter((file) => file.includes(chosen.id))).toEqual([]);
      good.set(
        cluster.cluster,
        goodOf(cluster).filter(({ id }) => id !== chosen.id),
      );
    },
  };
}

/** Work of any kind on the cluster. The source changes before it, so that no two backups are the same. */
async function beginWork(cluster: Protected, round: number): Promise<Work> {
  await cluster.server.sql("shop", `insert into sold values (${round}, 'round ${round}')`);
  const [first, ...others] = goodOf(cluster);
  if (!first) return await backup(cluster);
  if (others.length >= mostBackups) return await remove(cluster, first);
  if (random.chance(0.3)) return await backup(cluster);
  const kind = random.pick([verify, restore, swap]);
  // Of the newest good one a deletion is refused.
  if (others.length > 0 && random.chance(0.2))
    return await remove(cluster, random.pick([first, ...others.slice(0, -1)]));
  return await kind(cluster, random.pick([first, ...others]));
}

/** Kills one or both processes at once and starts them again; gives who it was. */
async function killAndStart(): Promise<string> {
  const victim = random.pick(["agent", "control plane", "agent and control plane"]);
  const { installation } = lab;
  const isAgent = victim.startsWith("agent");
  const isControlPlane = victim.endsWith("control plane");
  await Promise.all([
    isAgent ? installation.agent("db7").end("SIGKILL") : undefined,
    isControlPlane ? lab.killControlPlane() : undefined,
  ]);
  await delay(random.number(1000));
  if (isAgent) installation.startAgent("db7");
  if (isControlPlane) await installation.startControlPlane();
  return victim;
}

/** What was seen of an operation, for whoever looks for the reason. */
async function describe({ what, operation }: Work): Promise<string> {
  const { installation } = lab;
  const [seen, log] = await Promise.all([
    lab.get(operation).then((found) => JSON.stringify(found, null, 2), String),
    installation.coppice(["operation", "logs", operation]).then(({ stdout, stderr }) => stdout + stderr),
  ]);
  return `--- ${what}\n${seen}\n${log}`;
}

async function runRound(round: number): Promise<void> {
  const [one, other] = lab.clusters;
  const busy = random.chance(0.6) ? [one, other] : [random.pick([one, other])];
  const works: Work[] = [];
  let did = "";
  try {
    for (const cluster of busy) works.push(await beginWork(cluster, round));
    for (let kills = 0; kills === 0 || (kills < 3 && random.chance(0.3)); kills++) {
      const pause = random.number(kills === 0 ? 1500 : 3000);
      await delay(pause);
      did += `, ${pause.toFixed(0)} ms, kill of ${await killAndStart()}`;
    }
    const ends: string[] = [];
    for (const work of works) {
      const ended = await lab.ended(work.operation, 120_000);
      ends.push(`${ended.state.replace("OPERATION_STATE_", "")} ${ended.failure?.reason ?? ""}`.trimEnd());
      // An agent that died is the only reason there may be.
      const mayFail = did.includes("agent") && ended.failure?.reason === "AGENT_LOST";
      expect(hasSucceeded(ended) || mayFail, JSON.stringify(ended)).toBe(true);
    }
    await lab.expectTidy();
    for (const work of works) await work.check(await lab.get(work.operation));
    const what = works.map((work) => work.what).join(" and ");
    process.stdout.write(`soak: round ${round}: ${what}${did}: ${ends.join(" and ")}\n`);
  } catch (error) {
    const evidence = await Promise.all(works.map(describe));
    for (const file of lab.installation.logFiles()) evidence.push(`--- ${file}\n${await lastLines(file, 40)}`);
    throw new Error(`seed ${seed}, round ${round}${did}:\n${evidence.join("\n")}`, { cause: error });
  }
}

test(
  "whatever is killed and when: no success is false, originals are whole, and good backups can be restored",
  { timeout: (minutes + 10) * 60_000 },
  async () => {
    const end = performance.now() + minutes * 60_000;
    for (let round = 1; performance.now() < end; round++) await runRound(round);
    for (const cluster of lab.clusters) {
      for (const backup of goodOf(cluster)) await expectRestorable(cluster, backup);
    }
    // Killed or not, nothing said that the program itself is at fault.
    for (const file of lab.installation.logFiles()) expect(await readFile(file, "utf8")).not.toContain("INTERNAL");
  },
);
