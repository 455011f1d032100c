import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CommandSchema, type Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import { CancelSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { openLog } from "@coppice/proto/kit/log";
import { sleep } from "@coppice/proto/kit/sleep";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { openBudget, usualBudgetBytes } from "../../agent/src/budget.ts";
import { handlers } from "../../agent/src/commands/registry.ts";
import { openRunner } from "../../agent/src/commands/runner.ts";
import { openJournal } from "../../agent/src/journal/journal.ts";
import { clearAway } from "../../agent/src/repository/leavings/clear-away.ts";
import { manifestObjects } from "../../agent/src/repository/manifest-objects.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { type FreezableDisk, openFreezableDisk } from "../support/faults/freezable-disk.ts";
import { whyNoLoopDisk } from "../support/faults/loop-disk.ts";
import { runProgram } from "../support/run-program.ts";
import { storeBackup } from "../support/stored-backup.ts";

const unavailable = whyNoLoopDisk();
const signal = new AbortController().signal;
let disk: FreezableDisk;
beforeAll(async () => {
  if (unavailable === undefined) disk = await openFreezableDisk();
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});
afterEach(() => disk?.thaw());
afterAll(() => disk?.[Symbol.asyncDispose]());

// Fewer calls at once than this process has threads.
const open = (answerMs: number, path = disk.path) =>
  openFilesystem(path, "op_hangs", { patience: { answerMs, restMs: 100, callsAtOnce: 2 } });
const patient = 60_000;

async function* body(pauseMs = 0, times = 1): AsyncGenerator<Uint8Array, void> {
  for (let index = 0; index < times; index++) {
    await sleep(pauseMs, signal);
    yield Buffer.alloc(1 << 20);
  }
}

/** Everything that is or was being stored, once what was left to itself has cleared away. */
async function filesBecome(expected: readonly string[]): Promise<void> {
  const files = async () => {
    const entries = await readdir(disk.path, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  };
  await expect.poll(files, { timeout: 30_000 }).toEqual(expected);
}

test("a cancelled put into a disk that hangs is given up, and nothing of it is there once the disk is back", async () => {
  const storage = await open(patient);
  const controller = new AbortController();
  const putting = storage.put("a/b", body(5, 10_000), { signal: controller.signal, ifAbsent: true });
  const ended = putting.catch((error: unknown) => error);
  await disk.freeze();
  await disk.isMissed();
  const reason = new Error("not wanted");
  controller.abort(reason);
  expect(await ended).toBe(reason);
  await disk.thaw();
  await filesBecome([]);
});

test("a disk that does not come back is unreachable to who writes and deletes, however slow a body may be", async () => {
  const answerMs = 1_500;
  const storage = await open(answerMs);
  expect(await storage.put("a", body(2 * answerMs), { signal, ifAbsent: true })).toEqual({ sizeBytes: 1 << 20 });
  await disk.freeze();
  const hangs = {
    reason: "REPOSITORY_UNREACHABLE",
    message: expect.stringMatching(/ hangs: nothing came back/) as string,
  };
  await Promise.all([
    expect(storage.put("b", body(), { signal, ifAbsent: true })).rejects.toMatchObject(hangs),
    expect(storage.deleteMany(["a"], signal)).rejects.toMatchObject(hangs),
  ]);
  await disk.thaw();
  // What was asked for is done at last, or given up; nothing new appears.
  await filesBecome([]);
});

test("a disk that hangs leaves threads to others, and nothing more is asked of it until it has come back", async () => {
  const answerMs = 3_000;
  const folder = await mkdtemp(join(tmpdir(), "coppice-beside-"));
  await using beside = await open(answerMs, folder);
  await using first = await open(answerMs);
  await using second = await open(answerMs, `${disk.path}/`);
  await first.put("a", body(), { signal, ifAbsent: true });
  await disk.freeze();
  const hangs = {
    reason: "REPOSITORY_UNREACHABLE",
    message: expect.stringMatching(/ hangs: nothing came back/) as string,
  };
  const ended = Array.from({ length: 20 }, (_, number) =>
    expect([first, second][number % 2]?.put(`b/${number}`, body(), { signal, ifAbsent: true })).rejects.toMatchObject(
      hangs,
    ),
  );
  await disk.isMissed();
  await beside.put("a", body(), { signal, ifAbsent: true });
  await Promise.all(ended);
  // Who only looks would have an answer of a frozen disk.
  const beginMs = performance.now();
  await expect(first.stat("a", signal)).rejects.toMatchObject(hangs);
  await expect(open(answerMs)).rejects.toMatchObject(hangs);
  expect(performance.now() - beginMs).toBeLessThan(answerMs / 2);
  await beside.put("b", body(), { signal, ifAbsent: true });
  await disk.thaw();
  await expect.poll(() => first.stat("a", signal).catch(() => undefined)).toEqual({ sizeBytes: 1 << 20 });
  await first.deleteMany(["a"], signal);
  await filesBecome([]);
  await rm(folder, { recursive: true });
});

test("who cancels a backup does not wait for the clearing of a repository that hangs, and is told what is left", async () => {
  const storage = await open(patient);
  await storage.put("cls_a/backups/f/x", body(), { signal, ifAbsent: true });
  await disk.freeze();
  const leavings: string[] = [];
  const clearing = clearAway(storage, {
    prefix: "cls_a/backups/f/",
    operationId: "op_hangs",
    onLeaving: (leaving) => leavings.push(leaving),
    signal: AbortSignal.abort(new Error("cancelled")),
  }).then(() => "given up");
  // It is a minute otherwise.
  const longer = sleep(45_000, AbortSignal.timeout(50_000)).then(() => "waited for");
  expect(await Promise.race([clearing, longer])).toBe("given up");
  expect(leavings).toEqual([expect.stringMatching(/^objects below cls_a\/backups\/f\/ in .*did not answer in time/)]);
  await disk.thaw();
  await filesBecome([]);
});

test("a deletion that was cancelled and broke off in the middle is not called cancelled, and settling ends it", async () => {
  await using stored = await storeBackup(signal);
  await using journal = await openJournal(stored.folder);
  const results: Result[] = [];
  await using runner = openRunner({
    handlers,
    journal,
    report: (message) => void (message.case === "result" && results.push(message.value as Result)),
    workFolder: stored.folder,
    chainFolder: stored.folder,
    walFolder: stored.folder,
    agentVersion: "0.0.1",
    clientFiles: { home: "/nonexistent" },
    budget: openBudget(usualBudgetBytes),
    log: openLog({ level: "silent", name: "agent" }),
  });
  const { clusterId, folder } = stored.address;
  await cp(join(stored.folder, clusterId), join(disk.path, clusterId), { recursive: true });
  const location = { kind: { case: "filesystem" as const, value: { path: disk.path } } };
  const { backupId, manifestSha256 } = stored.address;
  const repository = { repositoryId: "rep_a", name: "main", location };
  // As the catalog names them.
  const keys = manifestObjects(stored.manifest).map(({ object }) => object.key);
  const backup = { clusterId, backupId, folder, manifestSha256, repository };
  const command = (number: bigint, spec: MessageInitShape<typeof CommandSchema>["spec"]) =>
    create(CommandSchema, {
      commandId: `cmd_${number}`,
      operationId: "op_1",
      attempt: 1,
      fence: { incarnation: 1n, number },
      ...(spec ? { spec } : {}),
    });
  const resultOf = async (id: string) =>
    await vi.waitFor(
      () => results.find(({ commandId }) => commandId === id) ?? Promise.reject(new Error(`no result of ${id} yet`)),
      { timeout: 30_000 },
    );
  // An object that nobody can delete, though its manifest can be.
  const below = join(disk.path, clusterId, "backups", folder);
  const protect = async (how: string) =>
    expect(await runProgram("chattr", [how, join(below, "db/1.dump.zst.0000")], { env: process.env })).toMatchObject({
      code: 0,
    });
  await protect("+i");
  await disk.freeze();
  runner.begin(command(1n, { case: "deleteBackup", value: { backup, keys } }));
  await disk.isMissed();
  runner.cancel(create(CancelSchema, { operationId: "op_1" }));
  await disk.thaw();
  const broken = await resultOf("cmd_1");
  await protect("-i");
  expect(await readdir(below)).not.toContain("manifest.json");
  expect(broken).toMatchObject({
    cancelled: false,
    failure: { reason: "OUTCOME_UNKNOWN" },
    result: { case: undefined },
  });
  runner.begin(command(2n, { case: "settle", value: { lost: { case: "deleteBackup", value: { backup, keys } } } }));
  expect((await resultOf("cmd_2")).result).toMatchObject({
    case: "settle",
    value: { outcome: { case: "deleteBackup" } },
  });
  await filesBecome(["cluster.json"]);
});
