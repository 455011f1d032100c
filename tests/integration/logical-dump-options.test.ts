import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DumpCodec, DumpContents, DumpFormat } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

describe.each([15, 17, 18])("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let lab: DumpLab;
  beforeAll(async () => {
    server = await openPostgresServer({ major });
    lab = await openDumpLab(server);
    await server.sql("postgres", "create database shop");
    await server.sql(
      "shop",
      `create schema other; create table kept (id int); comment on table kept is 'a remark'; insert into kept values (1);
       create table large (id int); insert into large values (4711); create table other.far (id int);
       select lo_from_bytea(77, 'an object');`,
    );
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  type Options = NonNullable<Parameters<DumpLab["dumpCommand"]>[0]>;

  /** The script of the database shop. */
  async function scriptOf(options: Options): Promise<string> {
    const command = lab.dumpCommand({
      databases: ["shop"],
      format: DumpFormat.PLAIN,
      codec: DumpCodec.NONE,
      ...options,
    });
    const { failure, result } = await lab.dump(command);
    expect(failure).toBeUndefined();
    const stored = dumpContent(result.manifest)?.databases[0]?.stream?.objects[0]?.key ?? "";
    return await readFile(join(lab.repository, "cls_test/backups", command.backup?.folder ?? "", stored), "utf8");
  }

  test("every option is understood by the tools of this version, and does what it says", async () => {
    const whole = await scriptOf({});
    for (const part of ["CREATE TABLE public.large", "4711", "other.far", "a remark", "OWNER TO", "lo_create", "COPY "])
      expect(whole).toContain(part);
    const bare = await scriptOf({
      excludeSchemas: ["other"],
      excludeTableData: ["large"],
      noOwner: true,
      noPrivileges: true,
      noComments: true,
      noPublications: true,
      noSubscriptions: true,
      noSecurityLabels: true,
      noLargeObjects: true,
      serializableDeferrable: true,
      rowsPerInsert: 10,
    });
    expect(bare).toContain("CREATE TABLE public.large");
    expect(bare).toContain("INSERT INTO public.kept");
    for (const part of ["4711", "other.far", "a remark", "OWNER TO", "lo_create", "COPY "])
      expect(bare).not.toContain(part);
    expect(await scriptOf({ tables: ["kep*"] })).not.toContain("large");
    expect(await scriptOf({ schemas: ["other"] })).not.toContain("kept");
    expect(await scriptOf({ excludeTables: ["kept"], contents: DumpContents.SCHEMA_ONLY })).not.toContain("4711");
    expect(await scriptOf({ contents: DumpContents.DATA_ONLY })).not.toContain("CREATE TABLE");
  });

  test("a pattern that finds nothing fails the database that lacks it, although another one finds something", async () => {
    const { failure } = await lab.dump(lab.dumpCommand({ databases: ["shop"], tables: ["kept", "kpet"] }));
    expect(failure).toMatchObject({
      reason: "BACKUP_INCOMPLETE",
      message: expect.stringContaining("no matching tables") as unknown,
    });
  });

  test("a cluster with a name that pg_dumpall refuses is refused for a cluster dump before anything is stored", async () => {
    await server.sql("postgres", 'create database "two\nlines"');
    const refused = { reason: "NOT_SUPPORTED", message: expect.stringContaining(String.raw`"two\nlines"`) as unknown };
    await expect(lab.dump(lab.dumpCommand({ clusterDump: true }))).rejects.toMatchObject(refused);
    const without = await lab.dump(lab.dumpCommand({ clusterDump: true, excludeDatabases: ["two\nlines"] }));
    expect(without.failure).toBeUndefined();
    expect(without.result.manifest?.requiredFeatures).toEqual(["cluster-dump"]);
    await server.sql("postgres", 'drop database "two\nlines"');
  });

  test("a statement that takes longer than its limit ends its database's dump and no other", async () => {
    // A view's rows are not dumped, a function in an index expression is not run: a lock is the one slow statement here.
    const client = new Client({
      host: "127.0.0.1",
      port: server.port,
      user: "postgres",
      password: server.password,
      database: "shop",
    });
    await client.connect();
    await client.query("begin; lock table kept in access exclusive mode");
    const { failure } = await lab.dump(
      lab.dumpCommand({ databases: ["shop", "postgres"], statementTimeout: { seconds: 1n } }),
    );
    await client.end();
    expect(failure?.message).toContain('"shop": a statement of the dump took longer than 1s');
    expect(failure?.message).not.toContain('"postgres"');
  });
});

describe("on a managed service", () => {
  let server: PostgresServer;
  let lab: DumpLab;
  beforeAll(async () => {
    server = await openPostgresServer({ major: 18 });
    lab = await openDumpLab(server);
    await server.sql(
      "postgres",
      `create role rdsadmin superuser; create role master login createdb createrole password 'secret-of-master';
       create database rdsadmin owner rdsadmin; create database shop owner master;
       create database hidden; revoke connect on database rdsadmin, hidden from public;`,
    );
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  async function dumpAs(user: string, password: string, options = {}): Promise<Dumped> {
    const command = lab.dumpCommand(options);
    if (command.connection?.endpoint) command.connection.endpoint.user = user;
    return await lab.dump(command, { password });
  }
  const missingIn = ({ result }: Dumped) =>
    dumpContent(result.manifest)?.missing.map(({ name, reason }) => [name, reason]);

  test("the provider's database is left out, one that the role may not enter is lacking, passwords are left out", async () => {
    const dumped = await dumpAs("master", "secret-of-master");
    expect(missingIn(dumped)).toEqual([
      ["hidden", MissingReason.CONNECTIONS_FORBIDDEN],
      ["rdsadmin", MissingReason.EXCLUDED],
    ]);
    expect(dumped.failure).toMatchObject({
      reason: "BACKUP_INCOMPLETE",
      message: expect.stringContaining("no right to connect") as unknown,
    });
    const without = await dumpAs("master", "secret-of-master", { excludeDatabases: ["hidden"], clusterDump: true });
    expect(without.failure).toBeUndefined();
    expect(without.result.manifest?.complete).toBe(true);
    expect(dumpContent(without.result.manifest)?.hasRolePasswords).toBe(false);
    expect(lab.log).toContain("the globals are dumped without passwords: the role may not read pg_authid");
  });

  test("a superuser keeps a database of such a name, and leaves passwords out when told to", async () => {
    const dumped = await dumpAs("postgres", server.password, { noRolePasswords: true });
    expect(missingIn(dumped)).toEqual([]);
    expect(dumpContent(dumped.result.manifest)?.hasRolePasswords).toBe(false);
    expect(dumped.result.recipe).toContain("Passwords are NOT in it");
  });
});
