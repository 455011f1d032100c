// One thing: a dump of a standby, which has no rows of unlogged tables, so that pg_dump leaves them out without a word.
import { readdir } from "node:fs/promises";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openStandby } from "../support/physical/standby.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

describe.each([15, 18])("PostgreSQL %i", (major) => {
  let primary: PostgresServer;
  let standby: PostgresServer;
  let lab: DumpLab;

  beforeAll(async () => {
    primary = await openPostgresServer({ major });
    for (const name of ["shop", "Other"]) await primary.sql("postgres", `create database "${name}"`);
    await primary.sql("Other", 'create unlogged table "Far" as select 1 as id');
    await primary.sql(
      "shop",
      `create table items as select generate_series(1, 5) as id; create unlogged table sessions (id serial);
       insert into sessions select from generate_series(1, 500); create temporary table gone (id int);
       create schema web; create table web.hits (id int) partition by list (id);
       create unlogged table web.hits_1 partition of web.hits for values in (1);
       create table web.visits (id serial); alter sequence web.visits_id_seq set unlogged`,
    );
    standby = await openStandby(primary);
    lab = await openDumpLab(standby);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
  });

  type Options = NonNullable<Parameters<DumpLab["dumpCommand"]>[0]>;
  const shop = { databases: ["shop"] };

  test("it is refused before a byte is written, with what would be lacking and what to do", async () => {
    await expect(lab.dump(lab.dumpCommand())).rejects.toMatchObject({
      reason: "STANDBY_LACKS_ROWS",
      message: expect.stringContaining(
        'lack it: public."Far" in the database "Other"; public.sessions, web.hits_1, web.visits_id_seq in the database "shop"',
      ) as string,
      hint: expect.stringContaining("coppice backup create shop --kind dump --instance primary") as string,
    });
    expect(await readdir(lab.repository)).toEqual([]);
  });

  test.each<[Options, string]>([
    [{ schemas: ["web"] }, "lack it: web.hits_1, web.visits_id_seq in"],
    [{ excludeSchemas: ["w*"] }, "lack it: public.sessions in"],
    [{ excludeTables: ["sess*"], excludeTableData: ["web.visits_id_seq"] }, "lack it: web.hits_1 in"],
    // Not in the search path, so that it is none of those.
    [{ excludeTables: ["hits_1"], excludeTableData: ["web.visits*", '"Sessions"'] }, "public.sessions, web.hits_1 in"],
    [{ tables: ["web.visits"] }, "lack it: web.visits_id_seq in"],
    [
      { excludeTableData: ["web.visits*"], tables: ["web.hits*", "items"], contents: DumpContents.DATA_ONLY },
      "lack it: web.hits_1 in",
    ],
  ])("what is chosen of a database is refused for what is in it alone: %j", async (options, lacking) => {
    const dumping = lab.dump(lab.dumpCommand({ ...shop, ...options }));
    await expect(dumping).rejects.toMatchObject({ message: expect.stringContaining(lacking) as string });
  });

  test.each<[Options]>([
    [{ excludeDatabases: ["shop", "Other"] }],
    [{ ...shop, excludeTableData: ["sessions", "web.*"] }],
    [{ ...shop, tables: ["items"], excludeTableData: ["web.visits_id_seq"] }],
    [{ ...shop, contents: DumpContents.SCHEMA_ONLY }],
  ])("where nothing is lacking it is taken, and says of what: %j", async (options) => {
    const { failure, result } = await lab.dump(lab.dumpCommand(options));
    expect(failure).toBeUndefined();
    expect(dumpContent(result.manifest)).toMatchObject({ fromStandby: true });
  });

  test("a database that cannot be looked into is missing, and the others are dumped", async () => {
    await primary.sql("postgres", "create database full_up; alter database full_up connection limit 0");
    await primary.sql("postgres", "create role dumper login password 'dumper' in role pg_read_all_data");
    const end = (await primary.sql("postgres", "select pg_current_wal_lsn()")).trimEnd();
    await expect.poll(() => standby.sql("postgres", `select pg_last_wal_replay_lsn() >= '${end}'`)).toBe("t");
    const command = lab.dumpCommand({ databases: ["postgres", "full_up"] });
    command.connection!.endpoint!.user = "dumper";
    const { failure, result } = await lab.dump(command, { password: "dumper" });
    expect(failure).toMatchObject({ reason: "BACKUP_INCOMPLETE" });
    expect(dumpContent(result.manifest)).toMatchObject({
      databases: [{ name: "postgres" }],
      missing: [{ name: "full_up", reason: MissingReason.FAILED }],
    });
  });

  test("the primary is dumped as ever", async () => {
    await using ofPrimary = await openDumpLab(primary);
    const { failure, result } = await ofPrimary.dump(ofPrimary.dumpCommand(shop));
    expect(failure).toBeUndefined();
    expect(dumpContent(result.manifest)).toMatchObject({ fromStandby: false });
  });
});
