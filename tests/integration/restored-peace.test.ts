// A restored server leaves the living ones in peace, and is not kept from its own work by what the source was told.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

describe.each([15, 18])("PostgreSQL %i", (major) => {
  let publisher: PostgresServer;
  let server: PostgresServer;
  let backups: PhysicalLab;
  let lab: RestoreLab;

  beforeAll(async () => {
    [publisher, server] = await Promise.all([
      openPostgresServer({ major, settings: { wal_level: "logical" } }),
      openPostgresServer({ major }),
    ]);
    backups = await openPhysicalLab(server);
    lab = await openRestoreLab(server, backups.repository);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await backups?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await publisher?.[Symbol.asyncDispose]();
  });

  test("its subscriptions do not run, it waits for no standby, and says how both come back", async () => {
    await publisher.sql("postgres", "create table t (id int primary key); create publication p for table t");
    const line = `host=127.0.0.1 port=${publisher.port} dbname=postgres user=postgres password=${publisher.password}`;
    await server.sql("postgres", "create table t (id int primary key)");
    await server.sql("postgres", `create subscription s connection '${line}' publication p`);
    // Written and not read yet: the source itself is not to wait.
    await server.sql("postgres", "alter system set synchronous_standby_names = 'ANY 1 (a, b)'");
    const backup = backups.command();
    await backups.take(backup);
    await server.sql("postgres", "alter subscription s disable");
    const command = await lab.command("peace", [backup.backup]);
    const { warnings } = await lab.restore(command);
    expect(warnings).toEqual([
      expect.stringContaining("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (a, b)'"),
      staysQuiet,
      expect.stringContaining("1 enabled subscription does not run"),
    ]);
    const workers = "select count(*) from pg_stat_activity where backend_type like 'logical replication%'";
    expect(await lab.sql(command, workers)).toBe("0");
    // It would wait for ever.
    await lab.sql(command, "set statement_timeout = '20s'; create table written as select 1");
    // As it was said.
    await lab.sql(command, "alter system reset max_logical_replication_workers");
    await lab.sql(command, "alter system reset cron.launch_active_jobs");
    const active = "select coalesce(bool_or(active), false) from pg_replication_slots";
    expect(await publisher.sql("postgres", active)).toBe("f");
    await server.sql("postgres", "alter system reset synchronous_standby_names");
    await lab.stop(command);
  });
});
