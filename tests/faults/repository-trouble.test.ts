// One thing: what becomes of a dump, and of a restore, whose repository runs full, or takes its key no more, in the middle
// of it.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { create } from "@bufbuild/protobuf";
import type { BackupDumpCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpCodec } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import { isFailure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { dumpCluster } from "../../agent/src/logical/dump/dump.ts";
import { restoreDatabase } from "../../agent/src/logical/restore.ts";
import { settleDump } from "../../agent/src/logical/settle.ts";
import { cleanRepository } from "../../agent/src/repository/survey/clean.ts";
import { surveyRepository } from "../../agent/src/repository/survey/survey.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import type { CephUser } from "../support/ceph/cluster.ts";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import type { Gateway } from "../support/ceph/gateway.ts";
import { credentialOf, littlePatience, newBucket } from "../support/ceph/s3-place.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { holdTable } from "../support/scenarios/held-table.ts";

const operationId = "op_trouble";
const signal = AbortSignal.timeout(240_000);
const megabyte = 1 << 20;

let server: PostgresServer;
let lab: DumpLab;
let leavings: string[];
beforeAll(async () => {
  server = await openPostgresServer({ major: 18 });
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database small; create database large");
  await server.sql("small", "create table t as select 1 as id");
  // 12 MB as a dump.
  await server.sql(
    "large",
    "create table t as select repeat(md5(id::text), 32) as text from generate_series(1, 12000) as id",
  );
});
beforeEach(() => {
  leavings = [];
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const newCommand = () => lab.dumpCommand({ databases: ["small", "large"], codec: DumpCodec.NONE, jobs: 1 });

async function dump(storage: Storage, command: BackupDumpCommand): Promise<unknown> {
  try {
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
    return failure;
  } catch (error) {
    return error;
  }
}

const backups = async (storage: Storage) => (await surveyRepository(storage, signal)).backups;

describe("on a disk of its own", () => {
  let place: string;
  const isRoot = process.getuid?.() === 0;
  beforeAll(async () => {
    if (!isRoot) return;
    place = lab.repository;
    const { code, stderr } = await runProgram("mount", ["-t", "tmpfs", "-o", "size=22m", "none", place], {
      env: process.env,
    });
    if (code !== 0) throw new Error(stderr);
  });
  afterAll(async () => {
    if (isRoot) await runProgram("umount", [place], { env: process.env });
  });

  test("that fills up, the dump fails with that, leaves nothing, and succeeds once there is room", async ({ skip }) => {
    if (!isRoot) skip("only root can mount a disk to fill");
    await using storage = await openFilesystem(place, operationId);
    // Room for the start of a dump, and not for the whole of it.
    const ballast = join(place, "ballast");
    await writeFile(ballast, Buffer.alloc(5 * megabyte));
    const command = newCommand();
    await using held = await holdTable(server, "large", "t");
    const dumping = dump(storage, command);
    await held.waitedFor();
    await writeFile(ballast, Buffer.alloc(14 * megabyte));
    await held.release();
    const failure = await dumping;
    expect(isFailure(failure) && failure.reason).toBe("REPOSITORY_FULL");
    expect(leavings).toEqual([]);
    expect(await backups(storage)).toEqual([]);
    expect(await Array.fromAsync(storage.listUnfinished("", signal))).toEqual([]);
    const late = await dump(storage, newCommand());
    expect(isFailure(late) && late.reason).toBe("REPOSITORY_FULL");
    await writeFile(ballast, "");
    expect(await dump(storage, command)).toBeUndefined();
    expect(await backups(storage)).toMatchObject([{ isCommitted: true }]);
  });
});

describe("in a bucket", () => {
  const unavailable = whyNoCephLab();
  let ceph: CephLab;
  let gateway: Gateway;
  let user: CephUser;
  let location: S3Location;
  beforeAll(async () => {
    if (unavailable !== undefined) return;
    ceph = await openCephLab();
    // Its own, so that what is done to the user is known at once.
    gateway = await ceph.startGateway();
    user = await ceph.addUser("troubled");
    location = await newBucket({ ...ceph, endpoint: gateway.endpoint, owner: user });
  });
  beforeEach(({ skip }) => {
    if (unavailable !== undefined) skip(unavailable);
  });
  afterAll(() => gateway?.[Symbol.asyncDispose]());

  const admin = (...args: string[]) => ceph.radosgwAdmin([...args, "--uid=troubled"]);
  const open = () =>
    openS3(
      location,
      { operationId, credentials: { write: credentialOf(user) }, conditionalPut: true, signal },
      littlePatience,
    );

  /** Does that to the user when the globals are stored and a database waits; gives how the dump ended. */
  async function troubled(storage: Storage, command: BackupDumpCommand, trouble: () => Promise<unknown>) {
    await using held = await holdTable(server, "large", "t");
    const dumping = dump(storage, command);
    await held.waitedFor();
    await trouble();
    await held.release();
    return await dumping;
  }

  test("whose quota is used up, the dump fails with that, is not taken for a wrong key, and leaves nothing", async () => {
    await using storage = await open();
    const failure = await troubled(storage, newCommand(), async () => {
      await admin("quota", "set", "--quota-scope=user", "--max-size=1M");
      await admin("quota", "enable", "--quota-scope=user");
    });
    expect(failure).toMatchObject({ reason: "REPOSITORY_FULL", metadata: { code: "QuotaExceeded" } });
    expect(leavings).toEqual([]);
    expect(await backups(storage)).toEqual([]);
    expect(await Array.fromAsync(storage.listUnfinished("", signal))).toEqual([]);
    await admin("quota", "disable", "--quota-scope=user");
  });

  test("that takes the key no more, the dump fails with that and says what it could not clear away; with a key it is found and removed", async () => {
    await using storage = await open();
    const command = newCommand();
    const failure = await troubled(storage, command, () => admin("user", "suspend"));
    expect(failure).toMatchObject({ reason: "REPOSITORY_CREDENTIALS_REFUSED" });
    expect(leavings).toEqual([expect.stringContaining(command.backup?.folder ?? "no folder") as string]);
    await admin("user", "enable");
    expect((await backups(storage)).map(({ isCommitted }) => isCommitted)).toEqual([false]);
    const dryRun = { before: new Date(Date.now() + 3_600_000), keptFolders: [], isDryRun: true, signal };
    expect((await cleanRepository(storage, dryRun)).leavings.join("\n")).toContain(command.backup?.folder);
    const settled = await settleDump(storage, { command, operationId, signal, onProgress: () => {} });
    expect(settled.outcome).toBeUndefined();
    expect(settled.removed.join("\n")).toContain("globals.sql.0000");
    expect(await backups(storage)).toEqual([]);
    expect(await dump(storage, command)).toBeUndefined();
  });

  test("whose key is replaced, the dump fails with that, and works with the new one", async () => {
    await using storage = await open();
    const command = newCommand();
    const failure = await troubled(storage, command, () =>
      admin("key", "create", "--key-type=s3", `--access-key=${user.accessKeyId}`, "--secret-key=another one"),
    );
    expect(failure).toMatchObject({ reason: "REPOSITORY_CREDENTIALS_REFUSED" });
    expect(failure instanceof Error && `${failure.message}${leavings.join("")}`).not.toContain(user.secretAccessKey);
    user = { ...user, secretAccessKey: "another one" };
    await using renewed = await open();
    const settled = await settleDump(renewed, { command, operationId, signal, onProgress: () => {} });
    expect(settled.outcome).toBeUndefined();
    expect(await dump(renewed, command)).toBeUndefined();
  });

  test("whose key is replaced under a restore, it fails with that, leaves the original, and works with the new one", async () => {
    const command = newCommand();
    await using storage = await open();
    expect(await dump(storage, command)).toBeUndefined();
    const original = await portrayDatabase(server, "large");
    const databases = "select string_agg(datname, ' ' order by datname) from pg_database";
    const before = await server.sql("postgres", databases);
    const restore = async (place: Storage, trouble: () => Promise<unknown>) =>
      await restoreDatabase({
        command: create(RestoreDatabaseCommandSchema, {
          ...(command.backup ? { backup: command.backup } : {}),
          database: "large",
          connection: connectionTo(server),
          targetDatabase: "large",
          mode: RestoreMode.REPLACE,
          stagedDatabase: "coppice_restore_troubled",
          keptDatabase: "kept_troubled",
        }),
        password: server.password,
        identities: undefined,
        files: lab.files,
        storage: place,
        workFolder: lab.workFolder,
        signal,
        onProgress: () => {},
        log: () => {},
        // The manifest and the list were read, the rows not yet.
        onStaged: async () => void (await trouble()),
        onLeaving: (leaving) => leavings.push(leaving),
      });
    const failure = await restore(storage, () =>
      admin("key", "create", "--key-type=s3", `--access-key=${user.accessKeyId}`, "--secret-key=a third one"),
    ).catch((error: unknown) => error);
    expect(failure).toMatchObject({ reason: "REPOSITORY_CREDENTIALS_REFUSED" });
    expect(failure instanceof Error && failure.message).not.toContain(user.secretAccessKey);
    expect(leavings).toEqual([]);
    expect(await server.sql("postgres", databases)).toBe(before);
    expect(await portrayDatabase(server, "large")).toBe(original);
    user = { ...user, secretAccessKey: "a third one" };
    await using renewed = await open();
    await restore(renewed, () => Promise.resolve());
    expect(await portrayDatabase(server, "large")).toBe(original);
  });
});
