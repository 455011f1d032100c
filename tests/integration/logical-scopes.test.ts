// One database and one server a major for all of it: what of a dump is restored, from where and into what.
import { execFile, execFileSync } from "node:child_process";
import { chmod, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  DumpFileSchema,
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents, DumpFormat, DumpCodec } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const run = promisify(execFile);
const shop = `
  create extension citext;
  create schema "Odd one";
  create type mood as enum ('sad', 'glad');
  create function stamp() returns trigger language plpgsql as $x$ begin return new; end $x$;
  create table customer (id serial primary key, name citext not null, mood mood, check (name <> ''));
  create table "Odd one"."or der" (id int generated always as identity primary key,
    customer int references customer, note text default 'a
b');
  create table event (at int, body text) partition by range (at);
  create table event_1 partition of event for values from (0) to (100);
  create index on event (at);
  create trigger stamped before insert on customer for each row execute function stamp();
  create policy own on customer using (id > 0);
  alter table customer enable row level security;
  comment on column customer.name is 'its name';
  grant select on customer to reader;
  create view happy as select * from customer where mood = 'glad';
  insert into customer (name, mood) select 'c' || n, 'glad' from generate_series(1, 50) n;
  insert into "Odd one"."or der" (customer) select 1 + n % 50 from generate_series(1, 30) n;
  insert into event select n, E'tab\\t back\\\\ \\\\. line\\n\\\\.\\nnext' from generate_series(1, 20) n;
  create function body() returns int language sql begin atomic select case when true then 1 end; select 2; end;
  select lo_from_bytea(4711, 'large');`;

describe.each([15, 18] as const)("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let lab: DumpLab;
  let dumped: Dumped;
  let toServer: string[];
  let withPassword: NodeJS.ProcessEnv;

  beforeAll(async () => {
    server = await openPostgresServer({ major });
    lab = await openDumpLab(server);
    toServer = ["-h", "127.0.0.1", "-p", String(server.port), "-U", server.superuser];
    withPassword = { ...process.env, PGPASSWORD: server.password };
    await server.sql("postgres", "create role reader; create database shop");
    await server.sql("shop", shop);
    dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
    if (dumped.failure) throw dumped.failure;
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    for (const name of (await names()).filter((each) => each !== "shop"))
      await server.sql("postgres", `drop database "${name}" with (force)`);
  });

  const names = async () =>
    (await server.sql("postgres", "select datname from pg_database where oid > 16383 order by 1"))
      .split("\n")
      .filter(Boolean);
  const query = async (database: string, text: string) => (await server.sql(database, text)).trim();

  function selecting(
    selection: MessageInitShape<typeof RestoreSelectionSchema>,
    { target = "part", mode = RestoreMode.NEW }: { target?: string; mode?: RestoreMode } = {},
  ): RestoreDatabaseCommand {
    const command = lab.restoreCommand(dumped, "shop", target, mode);
    return { ...command, selection: create(RestoreSelectionSchema, selection) };
  }

  let files = 0;
  function ofFile(path: string, changes: Partial<RestoreDatabaseCommand> = {}): RestoreDatabaseCommand {
    files += 1;
    const command = create(RestoreDatabaseCommandSchema, {
      file: create(DumpFileSchema, { path }),
      connection: connectionTo(server),
      targetDatabase: "from_file",
      mode: RestoreMode.NEW,
      stagedDatabase: `coppice_restore_file${files}`,
    });
    return { ...command, ...changes };
  }
  /** Dumps the database by PostgreSQL's own tools, as scripts do. */
  async function byHand(name: string, ...args: string[]): Promise<string> {
    const path = join(lab.folder, name);
    const tool = join(server.binDir, args.includes("--all") ? "pg_dumpall" : "pg_dump");
    const target = [...toServer, "-f", path];
    const which = args.includes("--all") ? [] : [...args, "shop"];
    await run(tool, [...target, ...which], { env: withPassword });
    return path;
  }

  test("a table comes with all that belongs to it and what it needs, and without a foreign key to a table that is left out", async () => {
    const result = await lab.restore(selecting({ tables: [{ schema: "Odd one", name: "or der" }, { name: "event" }] }));
    expect(result).toMatchObject({ tables: 2, rows: 50n });
    expect(result.warnings).toEqual([
      expect.stringMatching(
        /FK CONSTRAINT "Odd one.or der .*" is left out: it needs TABLE "public.customer"/,
      ) as unknown,
    ]);
    expect(await query("part", `insert into "Odd one"."or der" (note) values (default) returning id`)).toContain("31");
    expect(await query("part", "select count(*) from pg_indexes where tablename like 'event%'")).toBe("2");
    expect(await query("part", "select body from event limit 1")).toBe("tab\t back\\ \\. line\n\\.\nnext");
    await lab.restore(selecting({ tables: [{ name: "customer" }] }, { target: "other" }));
    const parts = `select count(*) from pg_trigger where tgrelid = 'customer'::regclass and not tgisinternal
      union all select count(*) from pg_policy union all select count(*) from pg_extension where extname = 'citext'
      union all select nextval('customer_id_seq') union all select has_table_privilege('reader', 'customer', 'select')::int
      union all select (col_description('customer'::regclass, 2) = 'its name')::int`;
    expect(await query("other", parts)).toBe("1\n1\n1\n51\n1\n1");
  });

  test("a small table is taken out of a large archive, all of whose stored bytes are read and checked", async () => {
    await server.sql("postgres", "create database large");
    await server.sql(
      "large",
      `create table a (i int); insert into a values (1); create table b (t text);
       insert into b select string_agg(md5(random()::text), '') from generate_series(1, 20000) g group by g % 50`,
    );
    const large = await lab.dump(lab.dumpCommand({ databases: ["large"] }));
    const selection = create(RestoreSelectionSchema, { tables: [{ name: "a" }], checksums: true });
    const taking = { ...lab.restoreCommand(large, "large", "part"), selection };
    expect(await lab.restore(taking)).toMatchObject({ tables: 1, rows: 1n, warnings: [] });
    const definitions = create(RestoreSelectionSchema, { contents: DumpContents.SCHEMA_ONLY });
    expect((await lab.restore({ ...taking, selection: definitions, targetDatabase: "empty" })).bytesRead).toBe(
      dumpContent(large.result.manifest)?.databases[0]?.stream?.objects[0]?.sizeBytes,
    );
    expect(await query("empty", "select count(*) from b")).toBe("0");
    const key = dumpContent(large.result.manifest)?.databases[0]?.stream?.objects[0]?.key ?? "";
    const place = join(lab.repository, "cls_test/backups", taking.backup?.folder ?? "", key);
    const bytes = await readFile(place);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 100_000) ^ 1, bytes.length - 100_000);
    await writeFile(place, bytes);
    await expect(lab.restore({ ...taking, targetDatabase: "damaged" })).rejects.toMatchObject({
      reason: expect.stringMatching(/DIGEST_MISMATCH|PROGRAM_FAILED/) as unknown,
    });
    expect(await names()).not.toContain("damaged");
  });

  test("rows can be compared with a second reading of the archive, all of them or the selected ones", async () => {
    lab.log.length = 0;
    expect(await lab.restore(selecting({ checksums: true }))).toMatchObject({ rows: 100n, warnings: [] });
    expect(lab.log).toContainEqual(expect.stringContaining("the rows of 3 tables are the archive's"));
    await lab.restore(selecting({ tables: [{ name: "event" }], checksums: true }, { target: "other" }));
    expect(lab.log).toContainEqual(expect.stringContaining("the rows of 1 tables are the archive's"));
    const insert = "insert into event values (1, 'not of the archive')";
    const changing = lab.restore(selecting({ checksums: true }, { target: "third" }), {
      onProgress: ({ phase, totalItems }) => {
        if (phase !== "comparing" || totalItems !== 3) return;
        const staged = execFileSync(
          join(server.binDir, "psql"),
          [...toServer, "-Atc", "select datname from pg_database where datname ~ '^coppice_restore'"],
          { env: withPassword },
        )
          .toString()
          .trim();
        execFileSync(join(server.binDir, "psql"), [...toServer, "-d", staged, "-c", insert], { env: withPassword });
      },
    });
    await expect(changing).rejects.toMatchObject({
      reason: "ARCHIVE_DIFFERS",
      message: expect.stringContaining("public.event") as unknown,
    });
    expect(await names()).toEqual(["other", "part", "shop"]);
  });

  test("schemas, definitions alone, and no owners or privileges can be restored", async () => {
    const selection = { schemas: ["Odd one"], contents: DumpContents.SCHEMA_ONLY };
    expect(await lab.restore(selecting(selection))).toMatchObject({ tables: 1, rows: 0n });
    const plain = { contents: DumpContents.SCHEMA_ONLY, noOwner: true, noPrivileges: true };
    expect(await lab.restore(selecting(plain, { target: "other" }))).toMatchObject({ rows: 0n, warnings: [] });
    expect(await query("other", "select has_table_privilege('reader', 'customer', 'select')")).toBe("f");
  });

  test("what is not there, or not enough by itself, is refused before anything is touched", async () => {
    const refused: [MessageInitShape<typeof RestoreSelectionSchema>, string][] = [
      [{ tables: [{ name: "custmer" }] }, 'no table "custmer"'],
      [{ schemas: ["odd one"] }, 'no schema "odd one"'],
      [{ tables: [{ name: "happy" }] }, 'VIEW "public.happy" needs TABLE "public.customer"'],
      [{ contents: DumpContents.DATA_ONLY }, "rows alone need tables"],
    ];
    for (const [selection, message] of refused)
      await expect(lab.restore(selecting(selection))).rejects.toMatchObject({
        reason: "SELECTION_REFUSED",
        message: expect.stringContaining(message) as unknown,
      });
    expect(await names()).toEqual(["shop"]);
  });

  test("a restore into a database is all or nothing, touches nothing else, and refuses what clashes before it begins", async () => {
    await server.sql("postgres", "create database live");
    await server.sql(
      "live",
      "create table mine as select 1 as a; create extension citext; create type mood as enum ('x')",
    );
    const into = (selection: MessageInitShape<typeof RestoreSelectionSchema>) =>
      selecting(selection, { target: "live", mode: RestoreMode.INTO });
    const before = await portrayDatabase(server, "live");
    // The type that is there has not the values that the rows need: it fails in the middle.
    await expect(lab.restore(into({ tables: [{ name: "customer" }] }))).rejects.toMatchObject({
      reason: "PROGRAM_FAILED",
    });
    expect(await portrayDatabase(server, "live")).toBe(before);
    await server.sql("live", "drop type mood");
    const controller = new AbortController();
    const reason = new Error("cancelled");
    const onProgress = ({ phase }: { phase: string }) => {
      if (phase === "restoring") controller.abort(reason);
    };
    const cancelled = lab.restore(into({ tables: [{ name: "customer" }] }), { signal: controller.signal, onProgress });
    // The program may have ended its session already, having had no time to begin; then only a look at the objects tells.
    const error: unknown = await cancelled.catch((each: unknown) => each);
    expect([error, error instanceof Error && error.cause]).toContain(reason);
    expect(await query("live", "select to_regclass('customer') is null")).toBe("t");
    expect(await lab.restore(into({ tables: [{ name: "customer" }] }))).toMatchObject({
      tables: 1,
      rows: 50n,
      keptAs: "",
    });
    const clash = lab.restore(into({ tables: [{ name: "customer" }, { name: "event" }] }));
    await expect(clash).rejects.toMatchObject({
      reason: "OBJECT_CLASHES",
      message: expect.stringContaining('TABLE "public.customer"') as unknown,
    });
    const rows = { tables: [{ name: "event" }], contents: DumpContents.DATA_ONLY };
    await expect(lab.restore(into(rows))).rejects.toMatchObject({ reason: "TABLE_MISSING" });
    await lab.restore(into({ tables: [{ name: "event" }] }));
    expect(await lab.restore(into(rows))).toMatchObject({ rows: 40n });
    await server.sql("live", "delete from customer; select setval('customer_id_seq', 500)");
    const people = await lab.restore(into({ tables: [{ name: "customer" }], contents: DumpContents.DATA_ONLY }));
    expect(people.warnings).toEqual([expect.stringContaining("sequences keep their values") as unknown]);
    expect(await query("live", "select nextval('customer_id_seq')")).toBe("501");
    expect(await query("live", "select a from mine")).toBe("1");
  });

  test("plain and encrypted backups come back whole in every codec, and a missing identity is told at once", async () => {
    const before = await portrayDatabase(server, "shop");
    for (const codec of [DumpCodec.ZSTD, DumpCodec.GZIP, DumpCodec.NONE]) {
      const plain = await lab.dump(lab.dumpCommand({ databases: ["shop"], format: DumpFormat.PLAIN, codec }));
      const command = lab.restoreCommand(plain, "shop", "shop", RestoreMode.REPLACE);
      expect(await lab.restore(command)).toMatchObject({ rows: 100n, keptAs: command.keptDatabase });
      expect(await portrayDatabase(server, "shop")).toBe(before);
      const selection = create(RestoreSelectionSchema, { tables: [{ name: "event" }] });
      await expect(lab.restore({ ...command, selection })).rejects.toMatchObject({ reason: "SELECTION_REFUSED" });
    }
    const { stdout } = await run("age-keygen", []);
    const [, other] = [stdout, (await run("age-keygen", [])).stdout];
    const recipient = /age1\S+/.exec(stdout)?.[0] ?? "";
    const command = lab.dumpCommand({ databases: ["shop"] });
    command.backup?.repository?.recipients.push(recipient);
    const sealed = await lab.dump(command);
    const restore = lab.restoreCommand(sealed, "shop", "part");
    await expect(lab.restore(restore)).rejects.toMatchObject({ reason: "IDENTITY_MISSING" });
    await expect(lab.restore(restore, { identities: other })).rejects.toMatchObject({ reason: "IDENTITY_WRONG" });
    expect(await lab.restore(restore, { identities: stdout })).toMatchObject({ rows: 100n });
  });

  test("dumps of scripts are told by their bytes and restored, whatever they are called", async () => {
    const sql = await byHand("a.txt");
    const custom = await byHand("b.sql", "-Fc");
    const tar = await byHand("c", "-Ft");
    const folder = await byHand("d", "-Fd");
    const created = await byHand("e", "-C");
    const { stdout } = await run("age-keygen", []);
    await run("sh", [
      "-c",
      'gzip -c "$1" > "$1.x"; zstd -q -o "$1.y" "$1"; zstd -qc "$1" | age -r "$2" > "$1.z"',
      "-",
      sql,
      /age1\S+/.exec(stdout)?.[0] ?? "",
    ]);
    await chmod(lab.folder, 0o755);
    for (const path of [sql, `${sql}.x`, `${sql}.y`, `${sql}.z`, custom, tar, folder, created]) {
      const result = await lab.restore(ofFile(path), { identities: stdout });
      expect(result, path).toMatchObject({ tables: 3, rows: 100n });
      expect(await query("from_file", "select convert_from(lo_get(4711), 'utf8')")).toBe("large");
      await server.sql("postgres", "drop database from_file");
    }
    const parallel = await lab.restore(ofFile(folder, { jobs: 2 }));
    expect(parallel).toMatchObject({ rows: 100n });
  });

  test("a cut or damaged file never counts as restored", async () => {
    const sql = await byHand("whole.sql");
    const text = await readFile(sql, "utf8");
    const cut = join(lab.folder, "cut.sql");
    await writeFile(cut, text.slice(0, text.indexOf("-- Name: customer customer_pkey")));
    await expect(lab.restore(ofFile(cut))).rejects.toMatchObject({ reason: "SCRIPT_TRUNCATED" });
    await writeFile(cut, text.slice(0, text.indexOf("c40\t")));
    const hint = expect.stringContaining("the file is cut off") as unknown;
    await expect(lab.restore(ofFile(cut))).rejects.toMatchObject({ reason: "SCRIPT_UNREADABLE", hint });
    await run("sh", ["-c", 'gzip -c "$1" | head -c 2000 > "$2"', "-", sql, cut]);
    await expect(lab.restore(ofFile(cut))).rejects.toMatchObject({ reason: "PROGRAM_FAILED", hint });
    const custom = await byHand("whole.dump", "-Fc");
    await run("sh", ["-c", 'head -c -400 "$1" > "$2"', "-", custom, cut]);
    await expect(lab.restore(ofFile(cut))).rejects.toMatchObject({ reason: "PROGRAM_FAILED" });
    const ran = join(lab.folder, "ran");
    for (const command of [
      `\\! touch ${ran}`,
      `select 1 \\g |touch ${ran}`,
      `\\copy event from program 'touch ${ran}'`,
    ]) {
      await writeFile(cut, `${command}\n${text}`);
      await expect(lab.restore(ofFile(cut))).rejects.toMatchObject({
        reason: expect.stringMatching(/^SCRIPT_(REFUSED|UNREADABLE)$/) as unknown,
      });
    }
    expect(await readdir(lab.folder)).not.toContain("ran");
    await writeFile(cut, "PK\x03\x04 nothing");
    await expect(lab.restore(ofFile(cut))).rejects.toMatchObject({ reason: "FILE_UNREADABLE" });
    await expect(lab.restore(ofFile(join(lab.folder, "gone")))).rejects.toMatchObject({ reason: "FILE_UNREADABLE" });
    expect(await names()).toEqual(["shop"]);
    expect(lab.log.filter((line) => line.startsWith("leaving"))).toEqual([]);
  });

  test("of a dump of a whole cluster the one named database is loaded, and nothing of the others", async () => {
    await server.sql("postgres", "create database decoy");
    await server.sql(
      "decoy",
      String.raw`create table t (a text); insert into t values (E'\n\\connect shop\ndrop table event;')`,
    );
    const all = await byHand("all.sql", "--all");
    await expect(lab.restore(ofFile(all))).rejects.toMatchObject({ reason: "SELECTION_REFUSED" });
    await expect(lab.restore(ofFile(all, { database: "shpo" }))).rejects.toMatchObject({
      reason: "DATABASE_NOT_IN_BACKUP",
      hint: expect.stringContaining('"decoy"') as unknown,
    });
    const result = await lab.restore(ofFile(all, { database: "shop" }));
    expect(result).toMatchObject({ tables: 3, rows: 100n });
    expect(result.warnings.join("\n")).toContain("are not compared");
  });
});
