import { create } from "@bufbuild/protobuf";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpCodec } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dumpCluster } from "../../agent/src/logical/dump/dump.ts";
import { restoreDatabase } from "../../agent/src/logical/restore.ts";
import { settleRestore } from "../../agent/src/logical/settle.ts";
import { openContentCheck } from "../../agent/src/logical/verify-content.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { whyNoCephLab } from "../support/ceph/lab.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import type { StorageCall, StorageFault } from "../support/faults/fault-storage.ts";
import { sweepFaults, type SweptPlace } from "../support/faults/fault-sweep.ts";
import { type Repositories, repositoryKinds } from "../support/faults/repositories.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const signal = AbortSignal.timeout(240_000);

let server: PostgresServer;
let lab: DumpLab;
let portrait: string;
beforeAll(async () => {
  server = await openPostgresServer({ major: 18 });
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database orders; create database stock");
  await server.sql("orders", "create table t as select id, md5(id::text) as text from generate_series(1, 500) as id");
  portrait = await portrayDatabase(server, "orders");
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const databases = () =>
  server.sql("postgres", "select string_agg(datname, ' ' order by datname) from pg_database where oid > 16383");

/** What only reads is told nothing, a part of it, or something else; whether it was done before makes no difference. */
function faultsOf({ method, number }: StorageCall): StorageFault[] {
  const nothing: StorageFault = { is: number % 2 === 0 ? "refused" : "gone from then on" };
  return method === "get" ? [nothing, { is: "cut", afterBytes: 40 }, { is: "flipped byte", at: 300 }] : [nothing];
}

describe.each([
  ["filesystem", undefined],
  ["s3", 3],
  ["ssh", 3],
] as const)("from a repository of kind %s", (kind, most) => {
  const unavailable = kind === "s3" ? whyNoCephLab() : undefined;
  const mostRuns = most === undefined ? {} : { mostRuns: most };
  let repositories: Repositories | undefined;
  let place: SweptPlace;
  let address: BackupAddress;

  beforeAll(async () => {
    if (unavailable !== undefined) return;
    repositories = await repositoryKinds[kind]();
    place = await repositories.openEmpty("op_dump");
    const command = lab.dumpCommand({ databases: ["orders", "stock"], codec: DumpCodec.NONE });
    const { result, failure } = await dumpCluster({
      command,
      operationId: "op_dump",
      agentVersion: "0.0.0-test",
      password: server.password,

      files: lab.files,
      storage: place.storage,
      signal,
      onProgress: () => {},
      log: () => {},
      onLeaving: () => {},
    });
    if (failure || !command.backup) throw failure ?? new Error("no address");
    address = { ...command.backup, manifestSha256: result.manifestSha256 };
  });
  afterAll(async () => {
    await place?.[Symbol.asyncDispose]();
    await repositories?.[Symbol.asyncDispose]();
  });

  // Nothing of it is written to, so that all runs can be on the same one.
  const open = async (): Promise<SweptPlace> => ({ storage: place.storage, async [Symbol.asyncDispose]() {} });

  async function verify(storage: Storage, isContent: boolean): Promise<void> {
    const { failure } = await verifyBackup(storage, address, {
      signal,
      onProgress: () => {},
      ...(isContent
        ? { openContent: (manifest) => openContentCheck(manifest, { identities: undefined, signal }) }
        : {}),
    });
    if (failure) throw failure;
  }

  test.each([
    ["digests", false],
    ["contents", true],
  ])(
    "a verification of %s whose repository fails at any call never finds the backup good",
    async (_what, isContent) => {
      if (unavailable !== undefined) return;
      const report = await sweepFaults({
        open,
        run: (_place, storage) => verify(storage, isContent),
        faults: faultsOf,
        ...mostRuns,
        async judge({ call, fault, failure }) {
          const isWrong = fault.is === "flipped byte";
          expect(failure.reason).toBe(isWrong ? "DIGEST_MISMATCH" : "REPOSITORY_UNREACHABLE");
          expect(failure.message).toContain(isWrong ? call.what : "made to fail");
        },
      });
      expect(report.findings).toEqual([]);
      expect(report.calls.length).toBeGreaterThanOrEqual(5);
      await verify(place.storage, isContent);
    },
  );

  interface Restoring extends SweptPlace {
    readonly command: RestoreDatabaseCommand;
    readonly leavings: string[];
    stagedOid: number | undefined;
  }
  let count = 0;

  async function openRestore(): Promise<Restoring> {
    count++;
    const targetDatabase = `again-${kind}-${count}`;
    const command = create(RestoreDatabaseCommandSchema, {
      backup: address,
      database: "orders",
      connection: connectionTo(server),
      targetDatabase,
      mode: RestoreMode.NEW,
      stagedDatabase: `coppice_restore_${kind}_${count}`,
    });
    return {
      storage: place.storage,
      command,
      leavings: [],
      stagedOid: undefined,
      async [Symbol.asyncDispose]() {
        await server.sql("postgres", `drop database if exists "${targetDatabase}"`);
      },
    };
  }

  const request = ({ command }: Restoring, storage: Storage) => ({
    command,
    password: server.password,
    identities: undefined,
    files: lab.files,
    storage,
    workFolder: lab.workFolder,
    signal,
  });

  async function restore(place: Restoring, storage: Storage): Promise<void> {
    await restoreDatabase({
      ...request(place, storage),
      onProgress: () => {},
      log: () => {},
      async onStaged(oid) {
        place.stagedOid = oid;
      },
      onLeaving: (leaving) => place.leavings.push(leaving),
    });
  }

  async function judgeRestored(place: Restoring): Promise<void> {
    const { targetDatabase } = place.command;
    expect(await server.sql(targetDatabase, "select count(*), md5(string_agg(t::text, '' order by id)) from t")).toBe(
      await server.sql("orders", "select count(*), md5(string_agg(t::text, '' order by id)) from t"),
    );
  }

  test("a restore whose repository fails at any call leaves the server as it was, and can be tried again", async () => {
    if (unavailable !== undefined) return;
    const before = await databases();
    const report = await sweepFaults({
      open: openRestore,
      run: restore,
      faults: faultsOf,
      ...mostRuns,
      async judge({ place: restoring }) {
        expect(await databases()).toBe(before);
        expect(restoring.leavings).toEqual([]);
        const { stagedOid } = restoring;
        const settled = await settleRestore({ ...request(restoring, place.storage), stagedOid });
        expect(settled).toEqual({ outcome: undefined, removed: [] });
      },
      // What lies behind the table of contents is not looked at while only that is wanted.
      judgeSuccess: ({ place: restoring }) => judgeRestored(restoring),
    });
    expect(report.findings).toEqual([]);
    // Nothing is left that a next try could meet.
    await using last = await openRestore();
    await restore(last, place.storage);
    await judgeRestored(last);
    expect(await portrayDatabase(server, "orders")).toBe(portrait);
  });
});
