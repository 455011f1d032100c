// One thing: what becomes of roles and tablespaces, from the dump of them to another server.
import { chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RestoreGlobalsCommandSchema,
  type RestoreGlobalsResult,
  RestoreGlobalsResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { toJsonString } from "@bufbuild/protobuf";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { type GlobalsRequest, planGlobals, restoreGlobals } from "../../agent/src/logical/globals/restore-globals.ts";
import { quoteLiteral } from "../../agent/src/postgres/quote.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const odd = `o'd"d; create role x\n$a$ \\`;
const quoted = `"${odd.replaceAll('"', '""')}"`;

describe.each([15, 18] as const)("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let lab: DumpLab;
  let dumped: Dumped;
  let folder: string;

  const drop = async () => {
    await server.sql("postgres", "revoke all on tablespace space from app; drop tablespace space").catch(() => {});
    const all = ["app", "staff", "admin role", odd].map(
      (name) => `E'${name.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`,
    );
    const drops = `select format('drop owned by %1$I; drop role %1$I', rolname) from pg_roles where rolname in (${all.join()})`;
    await server.sql("postgres", `${drops} \\gexec`);
  };
  const roles = async () =>
    (await server.sql("postgres", "select rolname from pg_roles where oid > 16383 order by 1"))
      .split("\n")
      .filter(Boolean);
  const granted = major >= 16 ? " granted by postgres" : "";

  beforeAll(async () => {
    server = await openPostgresServer({ major });
    lab = await openDumpLab(server);
    folder = join(server.socketDir, "space");
    await mkdir(folder);
    await chown(folder, server.owner.uid, server.owner.gid);
    await server.sql(
      "postgres",
      `create role staff; create role app login password 'secret-of-app' connection limit 3 valid until '2040-01-01';
       create role "admin role" createrole; create role ${quoted} nologin;
       grant staff to app with admin option${granted}; grant app to ${quoted};
       alter role app set work_mem = '7MB'; alter role app set search_path = "$user", 'a, b', public;
       comment on role ${quoted} is 'it''s; odd'; grant set on parameter work_mem to staff;
       create tablespace space owner staff location '${folder}'; grant create on tablespace space to app`,
    );
    dumped = await lab.dump(lab.dumpCommand({ databases: ["template1"] }));
    if (dumped.failure) throw dumped.failure;
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(drop);

  async function apply(
    options: MessageInitShape<typeof RestoreGlobalsCommandSchema> = {},
    login: Login = {},
  ): Promise<RestoreGlobalsResult> {
    return await withRequest(options, restoreGlobals, login);
  }

  interface Login {
    readonly user?: string;
    readonly password?: string;
    readonly of?: typeof dumped;
    readonly database?: string;
  }

  async function withRequest<T>(
    options: MessageInitShape<typeof RestoreGlobalsCommandSchema>,
    work: (request: GlobalsRequest) => Promise<T>,
    { user = "postgres", password = server.password, of = dumped, database = "" }: Login = {},
  ): Promise<T> {
    const { backup } = lab.restoreCommand(of, "template1", "x");
    const location = backup?.repository?.location;
    if (!backup || !location) throw new Error("no backup");
    const signal = AbortSignal.timeout(30_000);
    await using storage = await openStorage(location, { operationId: "op_globals", signal });
    const command = create(RestoreGlobalsCommandSchema, { ...options, connection: connectionTo(server), backup });
    if (command.connection?.endpoint)
      Object.assign(command.connection.endpoint, { user, maintenanceDatabase: database });
    return await work({
      command,
      password,
      identities: undefined,
      files: lab.files,
      storage,
      signal,
    });
  }

  test("roles and tablespaces come back with all of theirs, and a second time nothing is done", async () => {
    const planned = await apply({ dryRun: true });
    expect(await roles()).toEqual([]);
    const done = await apply();
    expect(done.createdRoles.toSorted()).toEqual(["admin role", "app", odd, "staff"].toSorted());
    expect(done.createdTablespaces).toEqual(["space"]);
    expect(planned).toEqual(done);
    const seen = `select rolconnlimit::text || rolcanlogin || (rolpassword like 'SCRAM%')::text || extract(year from rolvaliduntil at time zone 'UTC') from pg_authid where rolname = 'app'
      union all select array_to_string(setconfig, ';') from pg_db_role_setting s join pg_roles r on r.oid = setrole where rolname = 'app'
      union all select count(*)::text from pg_auth_members m join pg_roles r on r.oid = m.member where r.rolname in ('app', ${quoteLiteral(odd)})
      union all select has_tablespace_privilege('app', 'space', 'create')::text
      union all select has_parameter_privilege('staff', 'work_mem', 'set')::text`;
    expect((await server.sql("postgres", seen)).trim().split("\n")).toEqual([
      "3truetrue2040",
      `work_mem=7MB;search_path="$user", "a, b", public`,
      "2",
      "true",
      "true",
    ]);
    expect(await apply()).toMatchObject({ createdRoles: [], createdTablespaces: [], statements: 0, differences: [] });
  });

  test("of a tablespace whose restore ended after its first statement it is told what it lacks", async () => {
    await server.sql("postgres", `create tablespace space location '${folder}'`);
    const done = await apply();
    expect(done.createdTablespaces).toEqual([]);
    expect(done.differences).toContain('tablespace "space": it has none of its privileges, options and comment');
    expect((await server.sql("postgres", "select spcacl from pg_tablespace where spcname = 'space'")).trim()).toBe("");
  });

  test("a role that is there is not changed, and what differs is told without any password", async () => {
    await server.sql(
      "postgres",
      "create role app nologin connection limit 5; create role staff; alter role app set work_mem = '1MB'",
    );
    const done = await apply({ noTablespaces: true });
    expect(done.createdRoles.toSorted()).toEqual(["admin role", odd].toSorted());
    expect(done.differences).toEqual(
      expect.arrayContaining([
        'role "app": it is not login',
        'role "app": its connection limit is 5 instead of 3',
        'role "app": it has no password',
        'role "app": its password is valid until another time',
        'role "app": the setting work_mem is not "7MB"',
        'role "app": it is no member of "staff"',
      ]),
    );
    expect(toJsonString(RestoreGlobalsResultSchema, done)).not.toMatch(/SCRAM|secret/);
    expect(done.skipped).toEqual(['the tablespace "space": none was wanted']);
    expect(
      (await server.sql("postgres", "select rolcanlogin, rolconnlimit from pg_roles where rolname = 'app'")).trim(),
    ).toBe("f|5");
  });

  test("chosen roles come with the memberships among them, and others are refused", async () => {
    expect(await apply({ roles: ["app", odd] })).toMatchObject({
      createdTablespaces: [],
      skipped: [expect.stringContaining('"staff"') as unknown],
    });
    expect((await roles()).join("\n")).toBe(["app", odd].toSorted().join("\n"));
    await expect(apply({ roles: ["ap"] })).rejects.toMatchObject({ reason: "SELECTION_REFUSED" });
  });

  test("a role that is no superuser makes what it may, and all that it may not is told by name", async () => {
    await server.sql(
      "postgres",
      `create role app login password 'secret-of-app' valid until '2040-01-01'; create role staff superuser replication;
       create role "admin role" createdb createrole; grant staff to "admin role"; grant set on parameter work_mem to staff;
       alter role app set work_mem = '7MB'; alter role app set log_statement = 'all';
       create tablespace space location '${folder}'`,
    );
    const of = await lab.dump(lab.dumpCommand({ databases: ["template1"] }));
    await server.sql("postgres", "revoke set on parameter work_mem from staff");
    await drop();
    await server.sql("postgres", "create role master login createrole password 'of master'");
    const login = { user: "master", password: "of master", of };
    const done = await apply({}, login);
    const made = await roles();
    expect(done.createdRoles.toSorted()).toEqual(["admin role", "app", "staff"]);
    expect(made.toSorted()).toEqual(["admin role", "app", "master", "staff"]);
    expect(await server.sql("postgres", "select rolpassword like 'SCRAM%' from pg_authid where rolname = 'app'")).toBe(
      "t",
    );
    const told = done.skipped.join("\n");
    expect(told).toMatch(/^SUPERUSER, REPLICATION of the role "staff": .*(superuser|permission denied)/m);
    expect(told).toMatch(/^the setting log_statement of the role "app": .*permission denied/m);
    expect(told).toMatch(/^the privileges of "staff" on a setting: .*permission denied/m);
    expect(told).toMatch(/^the tablespace "space": .*permission denied/m);
    // Since 16 nobody gives what he has not.
    expect(/^CREATEDB of the role "admin role": .*permission denied/m.test(told)).toBe(major >= 16);
    expect(toJsonString(RestoreGlobalsResultSchema, done)).not.toMatch(/SCRAM|secret/);
    // What it lacks is told again as a difference, not made.
    const again = await apply({ noTablespaces: true }, login);
    expect(again.differences.join("\n")).toContain('role "staff": it is not superuser');
    await server.sql("postgres", 'drop owned by master cascade; drop role app, staff, "admin role", master');
  });

  test("a plan names everything that the restore would be refused for, and a trial of it leaves nothing", async () => {
    const login = { user: "weak", password: "of weak" };
    await server.sql("postgres", "create role weak login password 'of weak'");
    try {
      const plan = await withRequest({}, planGlobals, login);
      const failed = plan.items.flatMap(({ name, failure }) => (failure ? [[name, failure.reason]] : []));
      expect(failed).toEqual([["roles", expect.any(String)]]);
      await expect(withRequest({ noTablespaces: true }, restoreGlobals, login)).rejects.toMatchObject({
        message: plan.items.find(({ name }) => name === "roles")?.message,
      });
    } finally {
      await server.sql("postgres", "drop role weak");
    }
    await server.sql("postgres", "create role staff");
    const { items, result } = await withRequest({}, planGlobals);
    expect(await roles()).toEqual(["staff"]);
    expect(items.filter(({ failure }) => failure)).toEqual([]);
    const done = await apply();
    expect(done).toEqual(result);
    expect([done.presentRoles, done.createdTablespaces]).toEqual([["postgres", "staff"], ["space"]]);
  });

  test("roles of a cluster in another encoding than UTF-8 come back under their names", async () => {
    const database = "latin";
    await server.sql("postgres", "create database latin encoding 'LATIN1' locale 'C' template template0");
    // A server stores the bytes of the database that a role is made from.
    const ask = async (text: string) => (await server.sql(database, `set client_encoding = 'UTF8'; ${text}`)).trim();
    try {
      await ask(`create role "müller" nologin; comment on role "müller" is 'für größere'`);
      const command = lab.dumpCommand({ databases: ["template1"] });
      if (command.connection?.endpoint) command.connection.endpoint.maintenanceDatabase = database;
      const of = await lab.dump(command);
      if (of.failure) throw of.failure;
      await ask(`drop role "müller"`);
      const done = await apply({ roles: ["müller"] }, { of, database });
      expect(done).toMatchObject({ createdRoles: ["müller"], skipped: [] });
      const seen = "select rolname, shobj_description(oid, 'pg_authid') from pg_roles where rolname like 'm%ller'";
      expect(await ask(seen)).toBe("müller|für größere");
    } finally {
      await ask(`drop role if exists "müller"`);
      await server.sql("postgres", "drop database latin");
    }
  });

  test("a folder that a tablespace lacks is told before anything is made", async () => {
    await rm(folder, { recursive: true });
    await expect(apply()).rejects.toMatchObject({
      reason: "TABLESPACE_FOLDER_MISSING",
      message: expect.stringContaining(folder) as unknown,
    });
    expect(await roles()).toEqual([]);
    // There, and not the server's: roles come first, and a repetition goes on where this failed.
    await mkdir(folder, { mode: 0o700 });
    await expect(apply()).rejects.toMatchObject({
      reason: "PRIVILEGE_MISSING",
      message: expect.stringMatching(/^the tablespace "space" could not be made: .*[Pp]ermission/) as unknown,
    });
    await chown(folder, server.owner.uid, server.owner.gid);
    expect(await apply()).toMatchObject({ createdRoles: [], createdTablespaces: ["space"] });
  });
});
