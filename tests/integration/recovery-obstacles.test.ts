// What stands between a backup and its point without being said by the point: how far the archive leads, and what the
// server was told meanwhile.
import { appendFile, chown, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { restorePhysical } from "../../agent/src/physical/restore/restore.ts";
import { loginsOf, openLogin, socketEndpoint } from "../../agent/src/physical/restore/settings/logins.ts";
import { scratchPort } from "../../agent/src/physical/restore/settings/scratch-settings.ts";
import { openPhysicalLab, type PhysicalLab, physicalContent } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

describe.each([15, 18])("PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let backups: PhysicalLab;
  let lab: RestoreLab;
  let full: BackupAddress;
  let archive: string;

  beforeAll(async () => {
    server = await openPostgresServer({ major, settings: { archive_mode: "on" } });
    backups = await openPhysicalLab(server);
    lab = await openRestoreLab(server, backups.repository);
    archive = join(lab.folder, "archive");
    await mkdir(archive);
    await chown(archive, server.owner.uid, server.owner.gid);
    await server.sql("postgres", `alter system set archive_command = 'cp %p ${archive}/%f'`);
    await server.sql("postgres", "select pg_reload_conf(); create table t as select 1 as id");
    const command = backups.command();
    await backups.take(command);
    full = command.backup;
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await backups?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const archived = async () => {
    // Where nothing was written since the last switch there is nothing to switch.
    const last = "select pg_create_restore_point('last'); select pg_walfile_name(pg_switch_wal())";
    const [, name = ""] = (await server.sql("postgres", last)).split("\n");
    await expect.poll(() => readdir(archive), { timeout: 30_000 }).toContain(name);
    return name;
  };

  test("the latest is a failure that leaves nothing where recovery ends before the last record that was promised", async () => {
    await archived();
    await server.sql("postgres", "insert into t values (2)");
    const endLsn = await server.sql("postgres", "select pg_current_wal_flush_lsn()");
    const name = await archived();
    const whole = await lab.command("whole", [full]);
    whole.expectedEndLsn = endLsn;
    const restoreCommand = `cp ${archive}/%f %p`;
    await lab.restore(whole, { restoreCommand });
    expect(await lab.sql(whole, "select count(*) from t")).toBe("2");
    await lab.stop(whole);
    await rm(join(archive, name));
    const short = await lab.command("short", [full]);
    short.expectedEndLsn = endLsn;
    await expect(lab.restore(short, { restoreCommand })).rejects.toMatchObject({
      reason: "RECOVERY_TARGET_UNREACHABLE",
      message: expect.stringMatching(new RegExp(`recovery ended at .*, before ${endLsn}`)) as string,
    });
    expect((await readdir(lab.folder)).filter((each) => each.includes("short"))).toEqual([]);
  });

  test("more connections than its configuration says were there, by the command line or since, and it recovers with as many", async () => {
    // As if 60 had been on the command line.
    await appendFile(join(server.dataDir, "postgresql.conf"), "max_connections = 20\n");
    const backup = backups.command();
    await backups.take(backup);
    const command = await lab.command("fewer", [backup.backup]);
    const { warnings } = await lab.restore(command);
    expect(warnings).toEqual([expect.stringContaining("max_connections is 60, as its server had it"), staysQuiet]);
    expect(await lab.sql(command, "show max_connections")).toBe("60");
    await lab.stop(command);

    await server.sql("postgres", "alter system set max_connections = 90");
    await server.stop();
    await server.start();
    await server.sql("postgres", "insert into t values (3)");
    await archived();
    const raised = await lab.command("raised", [backup.backup]);
    const result = await lab.restore(raised, { restoreCommand: `cp ${archive}/%f %p` });
    expect(result.warnings.at(-1)).toBe("max_connections was raised to 90, as the WAL asks for it");
    expect(await lab.sql(raised, "show max_connections; select count(*) from t where id = 3")).toBe("90\n1");
    await lab.stop(raised);
  });

  test("a server without a role and a database called postgres is recovered by the names that it has", async () => {
    await server.sql("postgres", `create role other superuser login replication password '${server.password}'`);
    const asOther = async (port: number, database: string, text: string) => {
      const args = ["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", String(port), "-U", "other"];
      const env = { PATH: "/usr/bin:/bin", PGPASSWORD: server.password };
      const psql = join(server.binDir, "psql");
      const { code, stdout, stderr } = await runProgram(psql, [...args, "-d", database, "-c", text], { env });
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      return stdout.trim();
    };
    await asOther(server.port, "template1", "alter role postgres rename to boss");
    await asOther(server.port, "template1", "alter database postgres rename to home");
    const backup = backups.command();
    const endpoint = backup.connection?.endpoint;
    if (!endpoint) throw new Error("it connects nowhere");
    Object.assign(endpoint, { user: "other", maintenanceDatabase: "home" });
    const { manifest } = await backups.take(backup);
    const logins = loginsOf(physicalContent(manifest));
    expect(logins.roles).toEqual(["boss", "postgres"]);
    const command = await lab.command("renamed", [backup.backup]);
    await lab.restore(command);
    expect(await asOther(command.port, "home", "select count(*) > 0 from t")).toBe("t");
    await lab.stop(command);

    // So is a server that is for the agent alone.
    const scratch = await lab.command("scratch", [backup.backup]);
    const socketFolder = join(lab.folder, "run");
    await mkdir(socketFolder, { mode: 0o700 });
    await chown(socketFolder, server.owner.uid, server.owner.gid);
    const quiet = { onProgress() {}, log() {}, onLeaving() {}, onRestored: () => Promise.resolve() };
    await lab.with(scratch, (restore) => restorePhysical({ ...restore, ...quiet, scratch: { socketFolder } }));
    try {
      const signal = AbortSignal.timeout(60_000);
      const login = await openLogin(socketEndpoint(socketFolder, scratchPort, logins), logins, signal);
      await using connection = login.connection;
      expect(await connection.queryOne("select current_user::text as role")).toEqual({ role: "boss" });
    } finally {
      await lab.stop(scratch);
    }
  });
});
