import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BackupDumpCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { DumpCodec } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { dumpCluster } from "../../agent/src/logical/dump/dump.ts";
import { settleDump } from "../../agent/src/logical/settle.ts";
import { cleanRepository } from "../../agent/src/repository/survey/clean.ts";
import { scanRepository } from "../../agent/src/repository/survey/scan.ts";
import { surveyRepository } from "../../agent/src/repository/survey/survey.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { whyNoCephLab } from "../support/ceph/lab.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import type { StorageCall, StorageFault } from "../support/faults/fault-storage.ts";
import { type FaultyRun, sweepFaults, type SweptPlace } from "../support/faults/fault-sweep.ts";
import { type Repositories, repositoryKinds } from "../support/faults/repositories.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

interface Place extends SweptPlace {
  readonly command: BackupDumpCommand;
  readonly leavings: string[];
}

const operationId = "op_swept";
const signal = AbortSignal.timeout(240_000);
const later = new Date(Date.now() + 3_600_000);

let server: PostgresServer;
let lab: DumpLab;
beforeAll(async () => {
  server = await openPostgresServer({ major: 18 });
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database orders; create database stock");
  for (const name of ["orders", "stock"])
    await server.sql(name, "create table t as select generate_series(1, 50) as id");
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

async function dump({ command, leavings }: Place, storage: Storage): Promise<void> {
  const { failure } = await dumpCluster({
    command,
    operationId,
    agentVersion: "0.0.0-test",
    password: server.password,
    files: lab.files,
    storage,
    signal,
    onProgress: () => {},
    log: () => {},
    onLeaving: (leaving) => leavings.push(leaving),
  });
  if (failure) throw failure;
}

const scan = (storage: Storage) =>
  scanRepository(storage, { knownFolders: [], activeFolders: [], signal, onProgress: () => {} });

/** What is in the repository and belongs to no backup and no cluster. */
async function left(storage: Storage): Promise<string[]> {
  const { backups } = await surveyRepository(storage, signal);
  const objects = backups.filter(({ isCommitted }) => !isCommitted).flatMap((backup) => backup.objects);
  const unfinished = await Array.fromAsync(storage.listUnfinished("", signal));
  return [...objects.map(({ key }) => key), ...unfinished.map(({ id }) => id)];
}

/** What changes something fails in each way that it can; of what only looks it is the same whether it was done. */
function faultsOf({ method, number }: StorageCall): StorageFault[] {
  const cut: StorageFault = { is: "cut", afterBytes: 100 };
  if (method === "put") return [cut, { is: "refused" }, { is: "lost answer" }, { is: "done, then gone" }];
  if (method === "get") return [cut, { is: "gone from then on" }];
  return [{ is: number % 2 === 0 ? "refused" : "gone from then on" }];
}

/** Settling finds the truth, which is a whole backup and nothing besides. */
async function judgeCommitted({ storage, command }: Place): Promise<void> {
  const settled = await settleDump(storage, { command, operationId, signal, onProgress: () => {} });
  expect(settled).toMatchObject({ removed: [], outcome: { manifest: { complete: true } } });
  if (!command.backup) throw new Error("no address");
  const { failure: damage } = await verifyBackup(storage, command.backup, { signal, onProgress: () => {} });
  expect(damage).toBeUndefined();
  expect((await scan(storage)).backups).toHaveLength(1);
  expect(await left(storage)).toEqual([]);
}

/** It may only be taken for done when it is. */
async function judgeSuccess({ place, call, fault }: Omit<FaultyRun<Place>, "failure">): Promise<void> {
  expect([call.method, fault.is]).toEqual(["put", "lost answer"]);
  expect(call.what).toMatch(/\/manifest\.json$/);
  await judgeCommitted(place);
}

/** What it could not clear away it has said; whoever looks for it finds it, and the next try is as good as a first one. */
async function judgeWithdrawn(place: Place, fault: StorageFault): Promise<void> {
  const { storage, command, leavings } = place;
  const isGone = fault.is === "gone from then on" || fault.is === "done, then gone";
  const objects = await left(storage);
  expect(isGone ? [] : objects).toEqual([]);
  expect(objects.length === 0 || leavings.length > 0).toBe(true);
  const cleaning = { before: later, keptFolders: [], isDryRun: false, signal };
  expect(Number((await cleanRepository(storage, cleaning)).removed)).toBe(objects.length);
  const settled = await settleDump(storage, { command, operationId, signal, onProgress: () => {} });
  expect(settled.outcome).toBeUndefined();
  expect(await left(storage)).toEqual([]);
  // The way to it is the same for all calls, so that one fault each is enough.
  if (fault.is !== "done, then gone") return;
  await dump(place, storage);
  await judgeCommitted(place);
}

async function judge({ place, call, fault, failure }: FaultyRun<Place>): Promise<void> {
  expect(failure.hint).not.toBe("");
  const found = await scan(place.storage);
  expect(found.unreadable).toEqual([]);
  const isCommitted = found.backups.length > 0;
  // Then only what comes with the manifest's put can have failed, and nobody says that there is no backup.
  expect([failure.reason === "OUTCOME_UNKNOWN", isCommitted]).not.toEqual([false, true]);
  expect(!isCommitted || call.what.endsWith("/manifest.json")).toBe(true);
  await (isCommitted ? judgeCommitted(place) : judgeWithdrawn(place, fault));
}

describe.each([
  ["filesystem", undefined],
  ["s3", 6],
  ["ssh", 6],
] as const)("into a repository of kind %s", (kind, mostRuns) => {
  const unavailable = kind === "s3" ? whyNoCephLab() : undefined;
  let repositories: Repositories;
  beforeAll(async () => {
    if (unavailable === undefined) repositories = await repositoryKinds[kind]();
  });
  afterAll(() => repositories?.[Symbol.asyncDispose]());

  async function open(): Promise<Place> {
    const place = await repositories.openEmpty(operationId);
    const command = lab.dumpCommand({ databases: ["orders", "stock"], codec: DumpCodec.NONE, jobs: 1 });
    return { ...place, command, leavings: [] };
  }

  test(
    "a dump whose repository fails at any call fails clearly, lists nothing half-made, and can be tried again",
    { timeout: 240_000 },
    async ({ skip }) => {
      if (unavailable !== undefined) skip(unavailable);
      const report = await sweepFaults({
        open,
        run: dump,
        faults: faultsOf,
        judge,
        judgeSuccess,
        ...(mostRuns ? { mostRuns } : {}),
      });
      expect(report.findings).toEqual([]);
      expect(report.calls.filter(({ method }) => method === "put").length).toBe(6);
    },
  );
});
