// One thing: a backup's whole life, from dump to deletion, in a bucket whose server does wrong in each way that it can.
import type { BackupDumpCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  RestoreDatabaseCommandSchema,
  type RestoreDatabaseResult,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { create } from "@bufbuild/protobuf";
import { DumpCodec } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type Failure, isFailure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { dumpCluster, type Dumped } from "../../agent/src/logical/dump/dump.ts";
import { restoreDatabase } from "../../agent/src/logical/restore.ts";
import { settleDump } from "../../agent/src/logical/settle.ts";
import { deleteBackup } from "../../agent/src/repository/delete.ts";
import { cleanRepository } from "../../agent/src/repository/survey/clean.ts";
import { surveyRepository } from "../../agent/src/repository/survey/survey.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import type { Patience } from "../../agent/src/storage/s3/patience.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, littlePatience, newBucket } from "../support/ceph/s3-place.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { type Fault, type FaultProxy, openFaultProxy, type SeenRequest } from "../support/faults/fault-proxy.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const operationId = "op_whole";
const signal = AbortSignal.timeout(600_000);
const unavailable = whyNoCephLab();
const stack = new AsyncDisposableStack();
/** As little as a busy machine allows. */
const patience: Patience = {
  ...littlePatience,
  connectMs: 1_000,
  idleMs: 2_000,
  giveUpMs: 8_000,
  slowestBytesPerSecond: 16 << 20,
};

let server: PostgresServer;
let lab: DumpLab;
let ceph: CephLab;

/** A database of its own, and a bucket of its own behind a proxy of its own: the waits of several overlap. */
interface Place extends AsyncDisposable {
  readonly database: string;
  readonly proxy: FaultProxy;
  /** By the proxy, and past it. */
  readonly storage: Storage;
  readonly straight: Storage;
  dump(command: BackupDumpCommand): Promise<Ended<Dumped>>;
  restore(address: BackupAddress): Promise<Ended<RestoreDatabaseResult>>;
  /** Of each folder its name and whether it is a backup. */
  folders(): Promise<string[]>;
}

beforeAll(async () => {
  if (unavailable !== undefined) return;
  server = stack.use(await openPostgresServer({ major: 18 }));
  lab = stack.use(await openDumpLab(server));
  await server.sql("postgres", "create database orders");
  // 9.5 MB as a dump: an upload of two parts.
  await server.sql("orders", "create table t as select repeat(md5(i::text), 32) from generate_series(1, 9000) i");
  for (const index of troubles.keys())
    for (const kind of ["passing", "lasting"])
      await server.sql("postgres", `create database ${kind}${index} template orders`);
  ceph = await openCephLab();
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});
afterAll(() => stack.disposeAsync());

/** How a piece of work ended. */
interface Ended<T> {
  readonly failure: Failure | undefined;
  readonly value: T | undefined;
  readonly leavings: readonly string[];
}

async function ended<T extends object>(work: (leavings: string[]) => Promise<T>): Promise<Ended<T>> {
  const leavings: string[] = [];
  try {
    const value = await work(leavings);
    const failure = "failure" in value && isFailure(value.failure) ? value.failure : undefined;
    return { failure, value, leavings };
  } catch (error) {
    if (!isFailure(error)) throw error;
    return { failure: error, value: undefined, leavings };
  }
}

async function openPlace(database: string): Promise<Place> {
  await using opening = new AsyncDisposableStack();
  const proxy = opening.use(await openFaultProxy(ceph.endpoint));
  const location = await newBucket(ceph);
  const access = { operationId, credentials: { write: credentialOf(ceph.owner) }, conditionalPut: true, signal };
  const storage = opening.use(await openS3({ ...location, endpoint: proxy.endpoint }, access, patience));
  const straight = opening.use(await openS3(location, access, littlePatience));
  const opened = opening.move();
  const common = { password: server.password, files: lab.files, storage, signal, onProgress: () => {}, log: () => {} };
  return {
    database,
    proxy,
    storage,
    straight,
    dump: (command) =>
      ended((leavings) =>
        dumpCluster({
          ...common,
          command,
          operationId,
          agentVersion: "0.0.0-test",
          onLeaving: (leaving) => leavings.push(leaving),
        }),
      ),
    restore: (backup) =>
      ended((leavings) =>
        restoreDatabase({
          ...common,
          command: create(RestoreDatabaseCommandSchema, {
            backup,
            database,
            connection: connectionTo(server),
            targetDatabase: database,
            mode: RestoreMode.REPLACE,
            stagedDatabase: `coppice_restore_${database}`,
            keptDatabase: `kept_${database}`,
          }),
          identities: undefined,
          workFolder: lab.workFolder,
          onStaged: () => Promise.resolve(),
          onLeaving: (leaving) => leavings.push(leaving),
        }),
      ),
    folders: async () =>
      (await surveyRepository(straight, signal)).backups.map(({ folder, isCommitted }) => `${folder} ${isCommitted}`),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

const newCommand = ({ database }: Place) => lab.dumpCommand({ databases: [database], codec: DumpCodec.NONE, jobs: 1 });

const verify = (storage: Storage, address: BackupAddress) =>
  ended(() => verifyBackup(storage, address, { signal, onProgress: () => {} }));

const addressOf = (command: BackupDumpCommand, dumped?: Dumped): BackupAddress => {
  const { clusterId = "", backupId = "", folder = "" } = command.backup ?? {};
  return create(BackupAddressSchema, {
    clusterId,
    backupId,
    folder,
    manifestSha256: dumped?.result.manifestSha256 ?? "",
  });
};

const namesLike = (database: string) =>
  server.sql(
    "postgres",
    `select string_agg(datname, ' ' order by datname) from pg_database where datname like '%${database}'`,
  );

/** Names the call, the object, what was answered, and what to do. */
function expectClear(failure: Failure | undefined): void {
  expect(failure?.hint).not.toBe("");
  expect(failure?.reason).toMatch(/^(REPOSITORY_UNREACHABLE|BACKUP_INCOMPLETE|OUTCOME_UNKNOWN)$/);
  expect(failure?.message).toMatch(
    failure?.reason === "OUTCOME_UNKNOWN"
      ? /was lost while \S+ was put there/
      : /cannot (write|read|list|delete) \S+: .*(HTTP \d+|E[A-Z]+|Error|Timeout)/,
  );
}

const answer = (status: number, code: string): Fault => ({
  is: "answer",
  status,
  body: `<Error><Code>${code}</Code><Message>no</Message></Error>`,
});
const isCompletion = ({ method, url }: SeenRequest) => method === "POST" && url.includes("uploadId=");
const isBody = ({ method, url }: SeenRequest) => method === "PUT" || (method === "GET" && !url.includes("list-type"));
const isRead = ({ method, url }: SeenRequest) => method === "GET" && !url.includes("list-type");

/** What goes wrong, with which requests, and what goes on going wrong where that is another thing. */
const troubles: readonly (readonly [string, Fault, (request: SeenRequest) => boolean, Fault?])[] = [
  ["hangs", { is: "hang" }, isBody],
  ["answers 500", answer(500, "InternalError"), isBody],
  ["answers SlowDown", answer(503, "SlowDown"), isBody],
  ["cuts bodies", { is: "cut-answer", afterBytes: 100 }, isRead, { is: "drop" }],
  ["loses answers", { is: "drop-answer" }, isBody],
  ["answers a completion with an error in a 200", answer(200, "InternalError"), isCompletion],
  ["loses the answer of a completion", { is: "drop-answer" }, isCompletion],
];
const each = troubles.map(([what, fault, isMeant, lasting = fault], index) => ({
  what,
  fault,
  isMeant,
  lasting,
  index,
}));

test.concurrent.for(each)(
  "while it $what now and then, dump, verification, restore and deletion succeed, and are right",
  async ({ fault, isMeant, index }) => {
    await using place = await openPlace(`passing${index}`);
    const { proxy, storage, straight, database } = place;
    const original = await portrayDatabase(server, database);
    let hits = 0;
    proxy.rule = (request) => (isMeant(request) && request.earlier === 0 && ++hits > 0 ? fault : undefined);
    const command = newCommand(place);
    const dumped = await place.dump(command);
    expect(dumped).toMatchObject({ failure: undefined, leavings: [] });
    const address = addressOf(command, dumped.value);
    expect((await verify(straight, address)).failure).toBeUndefined();
    expect((await verify(storage, address)).failure).toBeUndefined();
    expect((await place.restore(address)).failure).toBeUndefined();
    expect(await portrayDatabase(server, database)).toBe(original);
    expect((await ended(() => deleteBackup(storage, address, [], signal))).failure).toBeUndefined();
    expect(await place.folders()).toEqual([]);
    expect(hits).toBeGreaterThan(0);
  },
);

// What only loses answers has done what it was asked for: that is found by looking, and no failure.
test.concurrent.for(each.filter(({ fault }) => fault.is !== "drop-answer"))(
  "while it $what for good, what needs it fails, says which call and what to do, and what it left is found",
  async ({ fault, isMeant, lasting, index }) => {
    await using place = await openPlace(`lasting${index}`);
    const { proxy, storage, straight, database } = place;
    const [original, names] = [await portrayDatabase(server, database), await namesLike(database)];
    const good = newCommand(place);
    const address = addressOf(good, (await place.dump(good)).value);
    const writes = isMeant({ method: "PUT", url: "", earlier: 0 }) || fault.is === "answer";

    // The beginning gets through: there is something to leave behind.
    const isBeginning = ({ url }: SeenRequest) => /globals|cluster\.json/.test(url);
    proxy.rule = (request) =>
      isMeant(request) && !isBeginning(request) ? (request.earlier === 0 ? fault : lasting) : undefined;
    const command = newCommand(place);
    const isReadToo = isMeant({ method: "GET", url: "", earlier: 0 });
    const [dumped, verified, restored] = await Promise.all([
      place.dump(command),
      isReadToo ? verify(storage, address) : undefined,
      isReadToo ? place.restore(address) : undefined,
    ]);
    // Its manifest is read back before it counts.
    expectClear(dumped.failure);
    for (const one of [verified, restored].filter((each) => each !== undefined)) expectClear(one.failure);
    expect(restored?.leavings ?? []).toEqual([]);
    expect(await portrayDatabase(server, database)).toBe(original);
    expect(await namesLike(database)).toBe(names);

    // A deletion sends but POST and DELETE.
    proxy.rule = ({ method, earlier }) => (method === "GET" ? undefined : earlier === 0 ? fault : lasting);
    const deleted = await ended(() => deleteBackup(storage, address, [], signal));
    proxy.rule = () => undefined;
    const isStill = (await place.folders()).includes(`${address.folder} true`);
    if (isStill || deleted.failure) expectClear(deleted.failure);
    expect((await verify(straight, address)).failure === undefined).toBe(isStill);

    // Whatever was answered: nothing that failed counts as a backup, what is unknown is found out, and all that either
    // has left is found and removed.
    const isUnknown = isFailure(dumped.failure, "OUTCOME_UNKNOWN");
    expect((await place.folders()).includes(`${command.backup?.folder} true`)).toBe(isUnknown);
    const { outcome } = await settleDump(straight, { command, operationId, signal, onProgress: () => {} });
    expect(outcome !== undefined).toBe(isUnknown);
    expect((await verify(straight, addressOf(command))).failure === undefined).toBe(isUnknown);
    await deleteBackup(straight, addressOf(command), [], signal);
    await deleteBackup(straight, address, [], signal);
    const everything = { before: new Date(Date.now() + 3_600_000), keptFolders: [], isDryRun: false, signal };
    await cleanRepository(straight, everything);
    expect(await place.folders()).toEqual([]);
    expect(await Array.fromAsync(straight.listUnfinished("", signal))).toEqual([]);
    expect(dumped.failure?.message).toMatch(writes ? /cannot write/ : /\S/);
  },
);
