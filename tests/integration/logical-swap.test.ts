// One thing: what is in place after a swap, however it ended; all of it is asked of the same two servers and dump.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { create, toJsonString } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { DatabasePropertiesSchema } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { planRestore, type RestoreToPlan } from "../../agent/src/logical/plan.ts";
import { settleRestore } from "../../agent/src/logical/settle.ts";
import { createStagedDatabase } from "../../agent/src/logical/staged-database.ts";
import { openConnection } from "../../agent/src/postgres/connect.ts";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const dyingRestore = new URL("../support/dumps/restore-and-die.ts", import.meta.url).pathname;

describe.each([15, 18] as const)("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let lab: DumpLab;
  let dumped: Dumped;

  beforeAll(async () => {
    server = await openPostgresServer({ major, settings: { wal_level: "logical", max_prepared_transactions: "5" } });
    lab = await openDumpLab(server);
    await server.sql("postgres", "create role keeper; create database shop owner keeper");
    await server.sql("shop", "create table t as select generate_series(1, 100) as id; alter table t owner to keeper");
    dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });
  /** Each test finds an original without rows, and nothing else. */
  beforeEach(async () => {
    for (const name of await names()) await server.sql("postgres", `drop database "${name}" with (force)`);
    await server.sql("postgres", "create database shop owner keeper");
    await server.sql("shop", "create table t (id int); alter table t owner to keeper");
  });

  const rows = (database: string) => server.sql(database, "select count(*) from t");
  const names = async () =>
    (await server.sql("postgres", "select datname from pg_database where oid > 16383 order by 1"))
      .split("\n")
      .filter(Boolean);
  const replacing = () => lab.restoreCommand(dumped, "shop", "shop", RestoreMode.REPLACE);

  async function withStorage<T>(
    command: RestoreDatabaseCommand,
    work: (request: RestoreToPlan) => Promise<T>,
  ): Promise<T> {
    const location = command.backup?.repository?.location;
    if (!location) throw new Error("no repository");
    const signal = AbortSignal.timeout(30_000);
    await using storage = await openStorage(location, { operationId: "op_look", signal });
    return await work({
      command,
      password: server.password,
      identities: undefined,
      files: lab.files,
      storage,
      workFolder: lab.workFolder,
      signal,
    });
  }

  test("a database is swapped under clients that connect all the time, at once for all of them", async () => {
    const stop = new AbortController();
    const seen: string[] = [];
    const client = async () => {
      while (!stop.signal.aborted) {
        const session = new Client({
          host: "127.0.0.1",
          port: server.port,
          user: "postgres",
          password: server.password,
          database: "shop",
        });
        session.on("error", () => {});
        try {
          await session.connect();
          const result = await session.query<{ n: number }>("select count(*)::int as n from t");
          seen.push(String(result.rows[0]?.n));
          await session.query("select pg_sleep(0.02)");
        } catch (error) {
          seen.push(error instanceof Error && "code" in error ? String(error.code) : "broken");
        } finally {
          await session.end().catch(() => {});
        }
      }
    };
    const clients = Array.from({ length: 4 }, client);
    const command = replacing();
    await lab.restore(command);
    await expect.poll(() => seen.at(-1)).toBe("100");
    stop.abort();
    await Promise.all(clients);
    // 57P01: ended by an administrator. 3D000: "seems to have just been renamed", for who was on his way in at that moment.
    const moment = seen.filter((each) => each === "3D000");
    expect(moment.length).toBeLessThanOrEqual(clients.length);
    expect(new Set(seen).difference(new Set(["0", "100", "57P01", "3D000", "broken"]))).toEqual(new Set());
    expect(seen).toContain("0");
    expect(await rows(command.keptDatabase)).toBe("0");
  });

  test("a database that a prepared transaction or a replication slot holds is not replaced, and the plan says so", async () => {
    await server.sql("shop", "begin; insert into t values (1); prepare transaction 'held'");
    await expect(lab.restore(replacing())).rejects.toMatchObject({
      reason: "DATABASE_IN_USE",
      message: expect.stringContaining("held") as unknown,
    });
    await server.sql(
      "shop",
      "rollback prepared 'held'; select pg_create_logical_replication_slot('slot_here', 'pgoutput')",
    );
    const plan = await withStorage(replacing(), planRestore);
    expect(plan.items.find(({ name }) => name === "target")).toMatchObject({
      status: CheckStatus.FAILED,
      message: expect.stringContaining("slot_here") as unknown,
    });
    await server.sql("shop", "select pg_drop_replication_slot('slot_here')");
    expect(await names()).toEqual(["shop"]);
  });

  test("a database that another restore has staged under the same name is not put into place, and stays", async () => {
    const command = replacing();
    const sayNow = (text: string) => {
      const address = ["-h", "127.0.0.1", "-p", String(server.port), "-U", server.superuser, "-d", "postgres"];
      const env = { ...process.env, PGPASSWORD: server.password };
      execFileSync(join(server.binDir, "psql"), [...address, "-Xqc", text], { env });
    };
    const onProgress = ({ phase }: { phase: string }) => {
      if (phase !== "swapping") return;
      sayNow(`drop database ${command.stagedDatabase} with (force)`);
      sayNow(`create database ${command.stagedDatabase}`);
    };
    await expect(lab.restore(command, { onProgress })).rejects.toMatchObject({
      reason: "DATABASE_IN_USE",
      message: expect.stringContaining(command.stagedDatabase) as unknown,
    });
    expect(await names()).toEqual([command.stagedDatabase, "shop"]);
    expect(await rows("shop")).toBe("0");
  });

  test("an aborted restore drops what it staged and leaves the original open", async () => {
    for (const phase of ["restoring", "comparing", "swapping"]) {
      const controller = new AbortController();
      const reason = new Error(`cancelled while ${phase}`);
      const onProgress = (work: { phase: string }) => {
        if (work.phase === phase) controller.abort(reason);
      };
      await expect(lab.restore(replacing(), { signal: controller.signal, onProgress })).rejects.toBe(reason);
      expect(await names()).toEqual(["shop"]);
      expect(await rows("shop")).toBe("0");
    }
    expect(lab.log.filter((line) => line.startsWith("leaving"))).toEqual([]);
  });

  test("a server that crashes under a restore is waited for, and keeps nothing of what was staged", async () => {
    let crashed: Promise<void> | undefined;
    const crash = async () => {
      await server.stop("immediate");
      await server.start();
    };
    const onProgress = ({ phase }: { phase: string }) => {
      if (phase === "comparing") crashed ??= crash();
    };
    await expect(lab.restore(replacing(), { onProgress })).rejects.toBeDefined();
    await crashed;
    expect(await names()).toEqual(["shop"]);
    expect(lab.log.filter((line) => line.startsWith("leaving"))).toEqual([]);
  });

  /** Restores in a process of its own, which kills itself at the step; gives the staged database's oid, if it came so far. */
  async function restoreAndDie(step: string, command: RestoreDatabaseCommand): Promise<number | undefined> {
    const ended = await runProgram(process.execPath, [dyingRestore, step, lab.workFolder, lab.files.home], {
      env: { PATH: "/usr/bin:/bin", PGTESTPASSWORD: server.password },
      input: toJsonString(RestoreDatabaseCommandSchema, command),
    });
    if (ended.signal !== "SIGKILL") throw new Error(`the restore was not killed: ${ended.stderr}`);
    return ended.stdout === "" ? undefined : Number(ended.stdout);
  }

  // On one major every step, on the other the one before something changes.
  const steps = major === 18 ? ["preflight", "staged", "restoring", "comparing"] : [];
  test.each([...steps, "swapping"])(
    "after a kill -9 at the step %s the original is there, and settling clears away what was staged",
    async (step) => {
      const command = replacing();
      const stagedOid = await restoreAndDie(step, command);
      expect(await rows("shop")).toBe("0");
      const settled = await withStorage(command, (request) => settleRestore({ ...request, stagedOid }));
      const removed = step === "preflight" ? [] : [`the database ${command.stagedDatabase}`];
      expect(settled).toEqual({ outcome: undefined, removed });
      expect(await names()).toEqual(["shop"]);
    },
  );

  test.each(major === 18 ? ["preflight", "staged", "restoring", "comparing", "swapping"] : [])(
    "after a kill -9 at the step %s of a restore under a new name there is no such database, and settling clears away",
    async (step) => {
      const command = lab.restoreCommand(dumped, "shop", "fresh", RestoreMode.NEW);
      const stagedOid = await restoreAndDie(step, command);
      expect(await names()).not.toContain("fresh");
      const settled = await withStorage(command, (request) => settleRestore({ ...request, stagedOid }));
      const removed = step === "preflight" ? [] : [`the database ${command.stagedDatabase}`];
      expect(settled).toEqual({ outcome: undefined, removed });
      expect(await names()).toEqual(["shop"]);
      expect(await rows("shop")).toBe("0");
    },
  );

  test("after a kill -9 behind the swap settling finds the restored database in place, and the original beside it", async () => {
    const command = replacing();
    const stagedOid = await restoreAndDie("done", command);
    expect(await rows(command.keptDatabase)).toBe("0");
    const settled = await withStorage(command, (request) => settleRestore({ ...request, stagedOid }));
    const outcome = { database: "shop", oid: stagedOid, rows: 100n, keptAs: command.keptDatabase };
    expect(settled).toMatchObject({ removed: [], outcome });
    // People may be at work in it already.
    await server.sql("shop", "drop table t");
    const changed = await withStorage(command, (request) => settleRestore({ ...request, stagedOid }));
    expect(changed.outcome?.warnings[0]).toContain("it was changed since it was restored");
    expect(await names()).toEqual([command.keptDatabase, "shop"].sort());
  });

  // As after a new enrolment: the journal that knew the oid is gone.
  test.each(major === 18 ? [RestoreMode.REPLACE, RestoreMode.NEW] : [RestoreMode.NEW])(
    "without the journal settling knows the restored database again by its oid, in mode %i",
    async (mode) => {
      const command = lab.restoreCommand(dumped, "shop", mode === RestoreMode.NEW ? "fresh" : "shop", mode);
      const oid = await restoreAndDie("done", command);
      const settled = await withStorage(command, (request) => settleRestore({ ...request, stagedOid: undefined }));
      expect(settled).toMatchObject({ removed: [], outcome: { oid, rows: 100n, keptAs: command.keptDatabase } });
      // To another restore under the same name it is a stranger.
      const other = lab.restoreCommand(dumped, "shop", command.targetDatabase, mode);
      const strange = await withStorage(other, (request) => settleRestore({ ...request, stagedOid: undefined }));
      expect(strange).toEqual({ outcome: undefined, removed: [] });
    },
  );

  test("settling ends a statement that still creates the staged database, so that nothing of it comes later", async () => {
    const command = replacing();
    const gate = new Client({
      host: "127.0.0.1",
      port: server.port,
      user: "postgres",
      password: server.password,
      database: "postgres",
    });
    await gate.connect();
    await gate.query("begin; lock table pg_database in exclusive mode");
    const signal = AbortSignal.timeout(30_000);
    const endpoint = await resolveEndpoint(command.connection?.endpoint, server.password, lab.files);
    await using connection = await openConnection(endpoint, { database: "postgres", signal });
    const creating = createStagedDatabase(connection, {
      name: command.stagedDatabase,
      properties: create(DatabasePropertiesSchema, {
        owner: "keeper",
        encoding: "UTF8",
        localeProvider: "libc",
        lcCollate: "C",
        lcCtype: "C",
      }),
      tablespace: undefined,
    });
    const outcome = creating.catch((error: unknown) => error);
    const waiting = `select count(*) from pg_stat_activity where query like 'CREATE DATABASE%' and wait_event_type = 'Lock'`;
    await expect.poll(() => server.sql("postgres", waiting)).toBe("1");
    const settled = await withStorage(command, (request) => settleRestore({ ...request, stagedOid: undefined }));
    await gate.query("commit");
    await gate.end();
    expect(await outcome).toMatchObject({ reason: "CLUSTER_UNREACHABLE" });
    expect(settled).toEqual({ outcome: undefined, removed: [] });
    expect(await names()).toEqual(["shop"]);
  });

  test("a database restored by somebody else under the name is not taken for the lost restore's own", async () => {
    await server.sql("postgres", "create database other");
    const command = lab.restoreCommand(dumped, "shop", "other");
    for (const stagedOid of [4711, undefined]) {
      const settled = await withStorage(command, (request) => settleRestore({ ...request, stagedOid }));
      expect(settled).toEqual({ outcome: undefined, removed: [] });
    }
    expect(await names()).toEqual(["other", "shop"]);
  });
});
