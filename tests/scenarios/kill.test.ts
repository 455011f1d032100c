// One thing: what kill -9 and cancel leave behind, always with the same two clusters in the middle of the same work.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Background, startBackground } from "../support/background.ts";
import { type Installation, waitFor } from "../support/installation.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { findPrograms } from "../support/programs.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { holdTable } from "../support/scenarios/held-table.ts";
import { type KillLab, openKillLab, type Protected } from "../support/scenarios/kill-lab.ts";
import { listDescendants, type ProcessSeen, stillRunning } from "../support/scenarios/processes.ts";

let lab: KillLab;
let installation: Installation;
let repository: string;
/** While a backup of the one is interrupted, a restore in the other is too. */
let clusters: KillLab["clusters"];

beforeAll(async () => {
  lab = await openKillLab();
  ({ installation, repository, clusters } = lab);
  // What restores need, and what must stay as it is.
  await Promise.all(clusters.map(({ cluster }) => installation.must(["backup", "create", cluster])));
});
afterAll(() => lab?.[Symbol.asyncDispose]());

const start = async (args: readonly string[]) => (await installation.must([...args, "--no-wait", "-o", "name"])).trim();

/** Work on two clusters, each in its middle: pg_dump waits for a table, pg_restore stands before a closed gate. */
interface Middle extends AsyncDisposable {
  readonly backup: string;
  readonly restore: string;
  /** What the agent has started for the two. */
  readonly children: readonly ProcessSeen[];
  /** Lets the dump go on. */
  release(): Promise<void>;
  /** Lets the restore go on. */
  openGate(): Promise<void>;
}

/** Gets a backup of the one cluster and a restore in the other to their middle. `target` are flags of the restore. */
async function getToMiddle(dumped: Protected, restored: Protected, target: readonly string[]): Promise<Middle> {
  await using stack = new AsyncDisposableStack();
  const table = stack.use(await holdTable(dumped.server, "shop", "sold"));
  await restored.gate.close();
  stack.defer(() => restored.gate.open());
  const [backup, restore] = await Promise.all([
    start(["backup", "create", dumped.cluster]),
    start(["restore", "create", restored.cluster, "--database", "shop", ...target]),
  ]);
  await Promise.all([table.waitedFor(), restored.gate.waitedFor("coppice\\_restore\\_%")]);
  const children = await listDescendants(installation.agent("db7").pid);
  const names = children.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["pg_dump", "pg_restore", "zstd"]));
  const owned = stack.move();
  return {
    backup,
    restore,
    children,
    release: () => table.release(),
    openGate: () => restored.gate.open(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function expectGone(processes: readonly ProcessSeen[]): Promise<void> {
  await expect.poll(() => stillRunning(processes), { timeout: 5000 }).toEqual([]);
}

/** Nothing is half-made, and the originals are as they were. */
async function expectTidy(): Promise<void> {
  await lab.expectTidy();
  for (const { server, portrait } of clusters) expect(await portrayDatabase(server, "shop")).toBe(portrait);
}

const countManifests = async () =>
  (await listFiles(repository)).filter((file) => file.endsWith("/manifest.json")).length;

/** What was interrupted can be done, and gives what it should. */
async function expectRestoreWorks({ cluster, server }: Protected): Promise<void> {
  await installation.must(["restore", "create", cluster, "--database", "shop", "--as", "again"]);
  expect(await server.sql("again", "select count(*) from sold")).toBe("5000");
  await server.sql("postgres", "drop database again");
}

/** The backup was lost, looked at and taken again, and every try is in its history. */
async function expectTakenAgain(id: string): Promise<void> {
  const { state, attempts } = await lab.ended(id);
  expect(state).toBe("OPERATION_STATE_SUCCEEDED");
  expect(attempts).toMatchObject([{ failure: { reason: "AGENT_LOST" } }, { settling: true }, {}]);
  expect(attempts[2]?.failure).toBeUndefined();
  expect(await installation.must(["operation", "logs", id])).toContain("cleared away: unfinished ");
}

/** The restore was lost, and a look has found its staged database and dropped it. */
async function expectClearedAway(id: string): Promise<void> {
  const { state, failure, leavings = [] } = await lab.ended(id);
  expect(state).toBe("OPERATION_STATE_FAILED");
  expect({ reason: failure?.reason, leavings }).toEqual({ reason: "AGENT_LOST", leavings: [] });
  expect(await installation.must(["operation", "logs", id])).toContain("cleared away: the database coppice_restore_");
}

test("an agent killed in the middle leaves nothing that runs, and when it is back the backup is taken again and the restore cleared away", async () => {
  const before = await lab.backupIds();
  const [dumped, restored] = clusters;
  await using middle = await getToMiddle(dumped, restored, ["--replace", "--yes"]);
  await installation.agent("db7").end("SIGKILL");
  await expectGone(middle.children);
  // The middle it was: there is something to clear away, and nothing that could pass for a backup.
  expect((await listFiles(repository)).filter((file) => file.includes("unfinished"))).not.toEqual([]);
  expect(await lab.backupIds()).toEqual(before);
  expect(await portrayDatabase(restored.server, "shop")).toBe(restored.portrait);
  for (const id of [middle.backup, middle.restore])
    expect((await lab.get(id)).state).toMatch(/_(RUNNING|INDETERMINATE)$/);

  // The gate stays closed: what still runs in the staged database must not keep it.
  await middle.release();
  installation.startAgent("db7");
  await expectTakenAgain(middle.backup);
  await expectClearedAway(middle.restore);
  const [made = ""] = await lab.backupIds();
  expect(before).not.toContain(made);
  await installation.must(["backup", "verify", made]);
  await middle.openGate();
  await expectTidy();
  await expectRestoreWorks(restored);
});

test("a control plane killed in the middle disturbs neither: what the agent finishes meanwhile is taken over", async () => {
  const [dumped, restored] = clusters;
  await using middle = await getToMiddle(dumped, restored, ["--as", "taken over"]);
  await using watchers = new AsyncDisposableStack();
  const watching = [middle.backup, middle.restore].map((id) => {
    const logFile = join(installation.folder, `watch-${id}.log`);
    const args = ["operation", "watch", id];
    return watchers.use(startBackground(findPrograms().coppice, args, { logFile, env: installation.env }));
  });
  const manifests = await countManifests();
  const isConnected = async ({ logFile }: Background) => (await readFile(logFile, "utf8")).startsWith("op_");
  await waitFor("both are watched", async () => (await Promise.all(watching.map(isConnected))).every(Boolean));
  await lab.killControlPlane();
  await Promise.all([middle.release(), middle.openGate()]);
  await waitFor("the backup is committed", async () => (await countManifests()) === manifests + 1);
  await waitFor("the database is in place", async () =>
    (await restored.server.sql("postgres", "select datname from pg_database")).split("\n").includes("taken over"),
  );

  await installation.startControlPlane();
  // Who watched them learns it from the next control plane.
  expect(await Promise.all(watching.map((watcher) => watcher.ended))).toEqual([0, 0]);
  for (const { logFile } of watching) {
    expect(await readFile(logFile, "utf8")).toMatch(/does not answer; trying on\n[^]*✓ .* (checked|counted, in .*)\n/);
  }
  for (const id of [middle.backup, middle.restore]) {
    const { state, attempts } = await lab.get(id);
    expect({ state, attempts: attempts.length }).toEqual({ state: "OPERATION_STATE_SUCCEEDED", attempts: 1 });
  }
  expect(await restored.server.sql("taken over", "select count(*) from sold")).toBe("5000");
  await restored.server.sql("postgres", 'drop database "taken over"');
  await expectTidy();
});

test("both killed in the middle come back, and the backup is taken again and the restore cleared away", async () => {
  const [restored, dumped] = clusters;
  await using middle = await getToMiddle(dumped, restored, ["--as", "never"]);
  await Promise.all([installation.agent("db7").end("SIGKILL"), lab.killControlPlane()]);
  await expectGone(middle.children);
  await middle.release();
  await installation.startControlPlane();
  installation.startAgent("db7");
  await expectTakenAgain(middle.backup);
  await expectClearedAway(middle.restore);
  expect(await restored.server.sql("postgres", "select count(*) from pg_database where datname = 'never'")).toBe("0");
  await middle.openGate();
  await expectTidy();
  await expectRestoreWorks(restored);
});

test("a cancel in the middle ends either within seconds and leaves nothing", async () => {
  const [restored, dumped] = clusters;
  const before = await lab.backupIds();
  await using middle = await getToMiddle(dumped, restored, ["--replace", "--yes"]);
  const operations = [middle.backup, middle.restore];
  const began = performance.now();
  const said = await Promise.all(operations.map((id) => installation.must(["operation", "cancel", id])));
  expect(performance.now() - began).toBeLessThan(8000);
  await expectGone(middle.children);
  expect(said).toEqual(operations.map((id) => `✓ ${id} is cancelled; nothing was left behind\n`));
  for (const id of operations) {
    const { code, stderr } = await installation.coppice(["operation", "watch", id]);
    expect(`${code}: ${stderr}`).toContain(`1: ✗ ${id} was cancelled`);
  }
  await Promise.all([middle.release(), middle.openGate()]);
  expect(await lab.backupIds()).toEqual(before);
  await expectTidy();
});
