// One table as it was comes back out of a physical backup, by way of a server that nobody else sees, and nothing of that
// server is left, however it ends.
import { once } from "node:events";
import { statfsSync, writeFileSync } from "node:fs";
import { chmod, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { DecideRestoreCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/decide_restore";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { RecoverPartCommand } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decideRestore, settleDecision } from "../../agent/src/logical/decide.ts";
import { isStagedOid } from "../../agent/src/logical/staged-database.ts";
import { compareTables } from "../../agent/src/scratch/compare-rows.ts";
import { planPart } from "../../agent/src/scratch/plan-part.ts";
import { watchRoom } from "../../agent/src/scratch/watch-room.ts";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { connectionTo } from "../support/dumps/dump-lab.ts";
import { openPartLab, type PartLab } from "../support/physical/part-lab.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { mountDisk } from "../support/faults/mount-disk.ts";
import { runProgram } from "../support/run-program.ts";
import { listProcesses } from "../support/scenarios/processes.ts";

const rows = "select count(*) || ' ' || md5(string_agg(t::text, '' order by t::text)) from items t";
const items = { tables: [{ schema: "public", name: "items" }] };

describe.each([15, 18])("PostgreSQL %i", (major) => {
  /** Of what is the same on every major one will do. */
  const newest = [major].filter((each) => each === 18);
  const stack = new AsyncDisposableStack();
  let server: PostgresServer;
  let backups: PhysicalLab;
  let lab: RestoreLab;
  let parts: PartLab;
  let full: BackupAddress;
  let then: string;
  let tablespaces: number[];

  beforeAll(async () => {
    // Settings that a copy must not act by.
    const settings = { logging_collector: "on", log_directory: "pg_log", archive_mode: "on" };
    server = stack.use(await openPostgresServer({ major, settings }));
    backups = stack.use(await openPhysicalLab(server));
    lab = stack.use(await openRestoreLab(server, backups.repository));
    parts = await openPartLab(server, lab);
    const space = join(server.dataDir, "..", "space");
    await runProgram("install", ["-d", "-o", server.owner.name, space], { env: process.env });
    await server.sql("postgres", `create role seller; create tablespace fast location '${space}'`);
    await server.sql("postgres", "create database orders owner seller");
    await server.sql(
      "orders",
      `create type state as enum ('new', 'sold');
       create table items (id int primary key, name text, state state, at timestamptz, price float8) tablespace fast;
       insert into items select i, md5(i::text), 'new', '2026-01-01 00:00+00', i / 3.0 from generate_series(1, 1000) i;
       create table days (day int, n int) partition by range (day);
       create table days_1 partition of days for values from (0) to (10);
       insert into days select 1, i from generate_series(1, 20) i;
       create table notes (text text); insert into notes values ('a'), ('a'), ('b');
       create view sold as select * from items where state = 'sold';
       grant select on items to seller`,
    );
    then = await server.sql("orders", rows);
    const command = backups.command();
    await backups.take(command);
    full = command.backup;
    const oid = await server.sql("postgres", "select oid from pg_tablespace where spcname = 'fast'");
    tablespaces = [Number(oid)];
    await server.sql(
      "orders",
      `delete from items where id <= 40; update items set state = 'sold' where id between 41 and 47;
       insert into items select i, 'later', 'new', now(), 0 from generate_series(2001, 2003) i;
       delete from notes where text = 'b'; insert into notes values ('a'); drop table days;
       alter table items add column extra text`,
    );
  });
  afterAll(() => stack.disposeAsync());

  const planOf = (command: RecoverPartCommand, isKnown = false) =>
    parts.with(command, (part) => planPart(part, isKnown));

  /** Nothing is left of a scratch server: no folder, no process. */
  const expectGone = async () => {
    expect((await readdir(lab.folder)).filter((name) => !["work", "home"].includes(name))).toEqual([]);
    expect(await readdir(join(lab.folder, "work"))).toEqual([]);
    expect((await listProcesses()).filter(({ argv }) => argv.join(" ").includes(lab.folder))).toEqual([]);
    expect(await server.sql("postgres", "select datname from pg_database where datname like 'coppice%'")).toBe("");
    expect(parts.leavings).toEqual([]);
  };

  test("a table comes back beside, as it was, and how it differs from the live one is counted by its key", async () => {
    const command = parts.command([full], { selection: items, tablespaces });
    const plan = await planOf(command);
    expect(plan.items.filter(({ status }) => status === CheckStatus.FAILED)).toEqual([]);
    expect(plan.items.map(({ name }) => name)).toEqual(expect.arrayContaining(["space", "scratch", "target"]));
    expect(plan.steps.join("\n")).toContain(`remove ${command.scratch}`);
    await expectGone();
    const phases = new Set<string>();
    const seen: { sockets: string; archive: string }[] = [];
    const result = await parts.recover(command, {
      onProgress: ({ phase }) => {
        if (!phases.has(phase) && phase === "dumping")
          void readFile(join(command.scratch, "data/postgresql.auto.conf"), "utf8").then((text) =>
            seen.push({
              sockets: /^unix_socket_directories = '(.*)'$/m.exec(text)?.[1] ?? "",
              archive: /^archive_mode = '(.*)'$/m.exec(text)?.[1] ?? "",
            }),
          );
        phases.add(phase);
      },
    });
    expect(seen).toEqual([{ sockets: join(command.scratch, "run"), archive: "off" }]);
    expect([...phases]).toEqual(expect.arrayContaining(["recovering", "dumping", "restoring", "swapping"]));
    expect(result.loaded).toMatchObject({ database: "past", tables: 1, rows: 1000n });
    expect(result.recovered?.endLsn).toMatch(/^[\dA-F]+\/[\dA-F]+$/);
    expect(result.differences).toMatchObject([
      { schema: "public", table: "items", counted: true, byKey: true, onlyLive: 3n, onlyRecovered: 40n, changed: 7n },
    ]);
    expect(result.differences[0]).toMatchObject({ same: 953n, note: expect.stringContaining("extra") as string });
    expect(await server.sql("past", rows)).toBe(then);
    // The rows of nothing else were wanted, and nothing else is there.
    expect(
      await server.sql(
        "past",
        "select string_agg(relname, ',') from pg_class where relname in ('notes', 'days', 'sold')",
      ),
    ).toBe("");
    await expectGone();
    await server.sql("postgres", "drop database past");
  });

  test.each(newest)(
    "a whole database waits beside the present one, closed, and takes its place once that is decided, if both are the same",
    async () => {
      const command = parts.command([full], {
        tablespaces,
        load: { targetDatabase: "orders", mode: RestoreMode.HOLD, keptDatabase: "orders_kept" },
      });
      const live = await server.sql("orders", rows);
      await server.sql("orders", "create table newer as select generate_series(1, 5000) as id");
      const plan = await planOf(command);
      expect(plan.items.filter(({ status }) => status === CheckStatus.FAILED)).toEqual([]);
      expect(plan.steps.at(-1)).toMatch(/^once that is confirmed: .* in one transaction rename it, to be kept/);
      const result = await parts.recover(command);
      // Their rows are in no difference, because what was recovered has no such tables.
      expect(result.onlyLive).toMatchObject({ objects: [{ kind: "table", name: "public.newer", rows: 5000n }] });
      await server.sql("orders", "drop table newer");
      const { held } = result.loaded ?? {};
      expect(result.loaded).toMatchObject({ database: "coppice_restore_part", keptAs: "" });
      expect(held).toMatchObject({ name: "coppice_restore_part", connectionLimit: -1, isTemplate: false });
      // Nothing was replaced, and nobody but a superuser comes into what waits.
      expect(await server.sql("orders", rows)).toBe(live);
      const limit = "select datconnlimit from pg_database where datname = 'coppice_restore_part'";
      expect(await server.sql("postgres", limit)).toBe("0");
      // By that no dump of the whole cluster takes it.
      expect(isStagedOid(held?.oid ?? 0, held?.name ?? "")).toBe(true);
      expect(result.differences.toSorted((a, b) => a.table.localeCompare(b.table))).toMatchObject([
        { table: "days_1", counted: true, onlyRecovered: 20n, note: "the live database has no such table" },
        { table: "items", byKey: true, changed: 7n },
        { table: "notes", byKey: false, onlyLive: 1n, onlyRecovered: 1n, same: 2n, changed: 0n },
      ]);
      const decide = (decision: RestoreDecision, kept = "orders_kept") =>
        decideRestore({
          command: create(DecideRestoreCommandSchema, {
            connection: connectionTo(server),
            ...(held ? { held } : {}),
            decision,
            targetDatabase: "orders",
            keptDatabase: kept,
          }),
          password: server.password,
          files: { home: lab.folder },
          signal: AbortSignal.timeout(60_000),
          log: () => {},
        });
      const { SWAP, DROP } = RestoreDecision;
      // Another database in the place of the one that it was compared with is not swapped out.
      await server.sql("postgres", "alter database orders rename to orders_aside; create database orders");
      await expect(decide(SWAP)).rejects.toMatchObject({ reason: "DATABASE_IN_USE" });
      await server.sql("postgres", "drop database orders; alter database orders_aside rename to orders");
      // Nor is another one of its name swapped in.
      await server.sql(
        "postgres",
        "alter database coppice_restore_part rename to aside; create database coppice_restore_part",
      );
      await expect(decide(SWAP)).rejects.toMatchObject({ reason: "NOTHING_TO_DECIDE" });
      await expect(decide(DROP)).rejects.toMatchObject({ reason: "NOTHING_TO_DECIDE" });
      await server.sql(
        "postgres",
        "drop database coppice_restore_part; alter database aside rename to coppice_restore_part",
      );
      expect(await server.sql("orders", rows)).toBe(live);

      expect(await decide(SWAP)).toMatchObject({ keptAs: "orders_kept" });
      // Asked for once more it is found in place, and it can no more be dropped.
      expect(await decide(SWAP, "another")).toMatchObject({ keptAs: "orders_kept" });
      await expect(decide(DROP)).rejects.toMatchObject({ reason: "NOTHING_TO_DECIDE" });
      expect(await server.sql("orders", rows)).toBe(then);
      const owner = "select pg_get_userbyid(datdba) || datconnlimit from pg_database where datname = 'orders'";
      expect(await server.sql("postgres", owner)).toBe("seller-1");
      await expectGone();
      await server.sql("postgres", "drop database orders; alter database orders_kept rename to orders");
    },
  );

  test.each(newest)(
    "what waits beside can be dropped, and is when its work was killed before it was told of",
    async () => {
      await server.sql("postgres", "create database coppice_restore_part");
      const oid = async (name: string) =>
        Number(await server.sql("postgres", `select oid from pg_database where datname = '${name}'`));
      const command = create(DecideRestoreCommandSchema, {
        connection: connectionTo(server),
        held: {
          name: "coppice_restore_part",
          oid: await oid("coppice_restore_part"),
          replacesOid: await oid("orders"),
        },
        decision: RestoreDecision.DROP,
        targetDatabase: "orders",
        keptDatabase: "orders_kept",
      });
      const signal = AbortSignal.timeout(60_000);
      const decision = { command, password: server.password, files: { home: lab.folder }, signal };
      expect(await settleDecision(decision)).toBeUndefined();
      for (const _again of [1, 2])
        expect(await decideRestore({ ...decision, log: () => {} })).toMatchObject({ keptAs: "" });
      expect(await settleDecision(decision)).toMatchObject({ decision: RestoreDecision.DROP });
      expect(await oid("orders")).toBe(command.held?.replacesOid);
      // As after a kill behind the loading, of which nothing was written down.
      const load = { targetDatabase: "orders", mode: RestoreMode.HOLD, keptDatabase: "orders_kept" };
      const lost = parts.command([full], { tablespaces, load });
      let settled: Awaited<ReturnType<PartLab["settle"]>> | undefined;
      await parts.recover(lost, { onDone: async () => void (settled = await parts.settle(lost)) });
      expect(settled?.outcome).toBeUndefined();
      expect(settled?.removed).toContain("the database coppice_restore_part");
      expect(await oid("orders")).toBe(command.held?.replacesOid);
      await expectGone();
    },
  );

  test("a table that was dropped goes back into the present database, at once or not at all, and once", async () => {
    const selection = { tables: [{ schema: "public", name: "days" }] };
    const load = { targetDatabase: "orders", mode: RestoreMode.INTO };
    const recover = () => parts.recover(parts.command([full], { selection, load, tablespaces }));
    expect((await recover()).loaded).toMatchObject({ database: "orders", rows: 20n });
    expect(await server.sql("orders", "select count(*) from days")).toBe("20");
    await expect(recover()).rejects.toThrow(/has already "public.days"$/);
    await server.sql("orders", "drop table days");
    await expectGone();
  });

  test("a dump file holds what was chosen and nothing else, for the agent's user alone, and never overwrites one", async () => {
    const file = join(lab.folder, "work", "items.dump");
    const command = parts.command([full], { selection: items, file, tablespaces });
    const result = await parts.recover(command);
    expect(result).toMatchObject({ file: { path: file }, tables: 1 });
    const found = await stat(file);
    expect([found.mode & 0o777, BigInt(found.size)]).toEqual([0o600, result.fileBytes]);
    const { stdout } = await runProgram(join(server.binDir, "pg_restore"), ["--list", file], { env: process.env });
    expect(stdout).toMatch(/ TABLE DATA public items /);
    expect(stdout).not.toMatch(/ (notes|days) /);
    await expect(parts.recover(command)).rejects.toMatchObject({ reason: "FILE_EXISTS" });
    expect(await readdir(join(lab.folder, "work"))).toEqual(["items.dump"]);
    await runProgram("rm", [file], { env: process.env });
    await expectGone();
  });

  test.each(newest)("what is not there at that point is said, and nothing is left", async () => {
    const missing = { tables: [{ schema: "public", name: "nowhere" }] };
    await expect(parts.recover(parts.command([full], { selection: missing, tablespaces }))).rejects.toMatchObject({
      reason: "SELECTION_REFUSED",
      message: expect.stringContaining('no table "public.nowhere" at that point') as string,
    });
    const other = Object.assign(parts.command([full], { tablespaces }), { database: "nobody's" });
    // A plan warns of what nobody knows: it may have been there, and is dropped now.
    const warned = async (command: RecoverPartCommand, isKnown = false) =>
      (await planOf(command, isKnown)).items.filter(({ name }) => name === "wanted").map(({ message }) => message);
    expect(await warned(other)).toEqual([
      expect.stringContaining('neither the catalog nor the live server knows a database "nobody\'s"'),
    ]);
    expect(await warned(other, true)).toEqual([]);
    expect(await warned(parts.command([full], { selection: items, tablespaces }))).toEqual([]);
    expect(await warned(parts.command([full], { selection: { ...missing, schemas: ["none"] }, tablespaces }))).toEqual([
      expect.stringContaining('the live database "orders" has no table "public.nowhere"'),
      expect.stringContaining('has no schema "none"'),
    ]);
    await expect(parts.recover(other)).rejects.toMatchObject({
      reason: "DATABASE_NOT_FOUND",
      hint: expect.stringContaining('"orders"') as string,
    });
    await expectGone();
  });

  test.each(newest)("a cancel at any step leaves nothing", async () => {
    for (const step of ["unpacking", "recovering", "restoring"]) {
      const controller = new AbortController();
      const cancelled = new Failure("CANCELLED", "it was cancelled");
      const work = parts.recover(
        parts.command([full], { selection: items, tablespaces }),
        { onProgress: ({ phase }) => phase === step && controller.abort(cancelled) },
        controller.signal,
      );
      await expect(work, step).rejects.toBe(cancelled);
      await expectGone();
    }
  });

  test.each(newest)(
    "a disk that fills while the server recovers or is dumped is said to be full, and nothing is left",
    async () => {
      const { uid, gid } = server.owner;
      await using disk = await mountDisk(256, `,uid=${uid},gid=${gid},mode=755`);
      const ballast = join(disk.folder, "ballast");
      for (const [step, leftBytes, said] of [
        ["recovering", 3 << 20, "was no room left for SCRATCH/data while its server recovered: "],
        // Whether pg_dump or the server itself lacks it first.
        ["dumping", 0, "SCRATCH"],
      ] as const) {
        let isFull = false;
        const onProgress = ({ phase }: { phase: string }) => {
          if (isFull || phase !== step) return;
          isFull = true;
          const { bavail, bsize } = statfsSync(disk.folder);
          writeFileSync(ballast, Buffer.alloc(bavail * bsize - leftBytes));
        };
        const scratch = join(disk.folder, "scratch");
        const work = parts.recover(parts.command([full], { selection: items, tablespaces, scratch }), { onProgress });
        await expect(work, step).rejects.toMatchObject({
          reason: "SPACE_MISSING",
          message: expect.stringContaining(said.replace("SCRATCH", scratch)) as string,
        });
        expect(await readdir(disk.folder)).toEqual(["ballast"]);
        expect((await listProcesses()).filter(({ argv }) => argv.join(" ").includes(disk.folder))).toEqual([]);
        await rm(ballast);
        await expectGone();
      }
      // A server that runs beside is to keep some of it.
      const idle = AbortSignal.timeout(60_000);
      using watch = watchRoom({ folder: disk.folder, leastBytes: 1n << 40n, signal: idle });
      await expect(once(watch.signal, "abort")).resolves.toBeDefined();
      expect(watch.signal.reason).toMatchObject({ reason: "SPACE_MISSING" });
    },
  );

  test.each(newest)("what cannot be is refused before anything is unpacked", async () => {
    const [plain, bad] = [parts.command([full], { tablespaces }), parts.command([full], { tablespaces })];
    bad.scratch = join(lab.folder, "nowhere/scratch");
    if (bad.restore) Object.assign(bad.restore, { dataDirectory: join(bad.scratch, "data"), tablespaces: [] });
    const failed = async (command = plain) =>
      (await planOf(command)).items.filter(({ status }) => status === CheckStatus.FAILED);
    expect(await failed(bad)).toContainEqual(expect.objectContaining({ name: "scratch" }));
    if (plain.load) plain.load.targetDatabase = "orders";
    expect(await failed()).toMatchObject([{ name: "target", message: 'the database "orders" exists already' }]);
    await expect(parts.recover(plain)).rejects.toMatchObject({ reason: "DATABASE_EXISTS" });
    const outside = parts.command([full], { tablespaces: [] });
    if (outside.restore) outside.restore.dataDirectory = "/srv/elsewhere/data";
    await expect(parts.recover(outside)).rejects.toThrow("does not lie in a scratch folder");
    // Somebody else's folder of that name is not touched.
    await writeFile(join(lab.folder, "scratch"), "precious");
    await chmod(join(lab.folder, "scratch"), 0o644);
    await expect(parts.recover(parts.command([full], { tablespaces }))).rejects.toThrow("is left alone");
    expect(await readFile(join(lab.folder, "scratch"), "utf8")).toBe("precious");
    await runProgram("rm", [join(lab.folder, "scratch")], { env: process.env });
    await expectGone();
  });

  test.each(newest)("a table that is too large to be compared is told as not counted", async () => {
    const endpoint = await resolveEndpoint(connectionTo(server).endpoint, server.password, { home: lab.folder });
    const sides = { live: { endpoint, database: "orders" }, recovered: { endpoint, database: "orders" } };
    const tables = [
      { schema: "public", name: "items" },
      { schema: "public", name: "notes" },
    ];
    const compare = (limits: Partial<Parameters<typeof compareTables>[2]["limits"]>) =>
      compareTables(sides, tables, {
        signal: AbortSignal.timeout(60_000),
        onTable: () => {},
        limits: { tables: 10, bytes: 1n << 30n, tableMs: 60_000, allMs: 60_000, ...limits },
      });
    expect(await compare({})).toMatchObject([
      { counted: true, onlyLive: 0n, changed: 0n },
      { counted: true, same: 3n },
    ]);
    const small = await compare({ bytes: 20_000n });
    expect(small).toMatchObject([
      { table: "items", counted: false },
      { table: "notes", counted: true },
    ]);
    expect(small[0]?.note).toMatch(/^it has .*, and up to 20 kB are compared$/);
    expect(await compare({ tables: 1 })).toHaveLength(1);
    expect(await compare({ allMs: -1 })).toMatchObject([{ counted: false }, { counted: false }]);
  });
});
