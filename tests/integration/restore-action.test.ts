// A server that is left waiting at its target, or shut down there, goes on by itself: nobody hands out WAL to it any more.
import { chown, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  RecoveryAction,
  RecoveryTargetSchema,
  RestoredServerState,
} from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openPhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { asServer } from "../support/scenarios/restored-server.ts";

const stack = new AsyncDisposableStack();
let server: PostgresServer;
let lab: RestoreLab;
let backup: BackupAddress;
let archive: string;
let lsn: string;
let restoreCommand: string;

beforeAll(async () => {
  server = stack.use(
    await openPostgresServer({ major: 15, settings: { archive_mode: "on", max_prepared_transactions: "5" } }),
  );
  const backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  archive = join(lab.folder, "archive");
  await mkdir(archive);
  await chown(archive, server.owner.uid, server.owner.gid);
  await server.sql("postgres", `alter system set archive_command = 'cp %p ${archive}/%f'`);
  await server.sql("postgres", "select pg_reload_conf(); create table t as select generate_series(1, 1000) as id");
  const taken = backups.command();
  await backups.take(taken);
  backup = taken.backup;
  await server.sql("postgres", "insert into t select generate_series(1, 10)");
  await server.sql("postgres", "begin; insert into t values (-1); prepare transaction 'open'");
  lsn = await server.sql("postgres", "select pg_current_wal_flush_lsn()");
  // The record at that position is replayed too: one that locks nothing.
  await server.sql("postgres", "select pg_create_restore_point('here')");
  await server.sql("postgres", "rollback prepared 'open'");
  await server.sql("postgres", "drop table t");
  const last = await server.sql("postgres", "select pg_walfile_name(pg_switch_wal())");
  while (!(await readdir(archive)).includes(last)) await setTimeout(50);
  // A number that another copy has taken since.
  await writeFile(join(archive, "00000002.history"), `1\t${lsn}\tanother copy\n`);
  // As the agent's own: when the restore is over, the server would be stopped by what it says.
  const alive = join(lab.folder, "alive");
  restoreCommand = `if [ ! -e ${alive} ]; then exit 126; fi; cp ${archive}/%f %p 2>/dev/null || exit 1`;
});
afterAll(() => stack.disposeAsync());

const unseen = "prepared transactions are open, with all locks, shows only when recovery has ended";
const prepared = "select string_agg(gid, ',') from pg_prepared_xacts";

async function restore(name: string, action: RecoveryAction) {
  const target = create(RecoveryTargetSchema, { point: { case: "lsn", value: lsn }, timeline: 1, action });
  const command = await lab.command(name, [backup], { target });
  const alive = join(lab.folder, "alive");
  await writeFile(alive, "");
  const result = await lab.restore(command, { restoreCommand });
  await rm(alive);
  return { command, result };
}
const control = (data: string, word: string) =>
  asServer(server, "pg_ctl", ["-D", data, "-s", "-w", "-t", "60", "-m", "fast", "-l", `${data}.log`, word]);

test("promoted at its target it takes writes, and has them and all before still when it is killed at once", async () => {
  const { command, result } = await restore("promoted", RecoveryAction.PROMOTE);
  expect(result).toMatchObject({ started: true, timeline: 3, serverState: RestoredServerState.RUNNING });
  expect(result.warnings.at(-1)).toContain("1 prepared transaction is open");
  const sql = (text: string) => lab.sql(command, text);
  expect(await sql("select current_setting('recovery_target_action'), pg_is_in_recovery()")).toBe("pause|f");
  await sql("insert into t values (0)");
  await lab.stop(command);
  expect((await control(command.dataDirectory, "start")).code).toBe(0);
  expect(await sql("select count(*), pg_is_in_recovery() from t")).toBe("1011|f");
  await lab.stop(command);
});

test("paused it can be resumed, writes on a timeline that was free, and starts again", async () => {
  const { command, result } = await restore("paused", RecoveryAction.PAUSE);
  expect(result).toMatchObject({ started: true, timeline: 1, serverState: RestoredServerState.PAUSED });
  expect(result.warnings.at(-1)).toContain(unseen);
  const sql = (text: string) => lab.sql(command, text);
  expect(await sql("select pg_is_in_recovery(), count(*) from t")).toBe("t|1010");
  await sql("select pg_wal_replay_resume()");
  await expect.poll(() => sql("select pg_is_in_recovery()").catch(() => ""), { timeout: 60_000 }).toBe("f");
  expect(await sql(prepared)).toBe("open");
  await sql("insert into t values (0)");
  expect(await sql("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")).toBe("00000003");
  expect((await control(command.dataDirectory, "restart")).code).toBe(0);
  expect(await sql("select count(*) from t")).toBe("1011");
  await lab.stop(command);
});

test("a paused server that is stopped comes back to its target when it is started", async () => {
  const { command } = await restore("stopped", RecoveryAction.PAUSE);
  expect((await control(command.dataDirectory, "restart")).code).toBe(0);
  const sql = (text: string) => lab.sql(command, text);
  await expect
    .poll(() => sql("select pg_get_wal_replay_pause_state()").catch(() => ""), { timeout: 60_000 })
    .toBe("paused");
  expect(await sql("select count(*) from t")).toBe("1010");
  await lab.stop(command);
});

test("shut down at its target it ends recovery there when it is started, and takes writes", async () => {
  const { command, result } = await restore("down", RecoveryAction.SHUTDOWN);
  expect(result).toMatchObject({ started: true, timeline: 1, serverState: RestoredServerState.SHUT_DOWN });
  expect(result.warnings.at(-1)).toContain(unseen);
  const sql = (text: string) => lab.sql(command, text);
  expect((await control(command.dataDirectory, "start")).code).toBe(0);
  await expect.poll(() => sql("select pg_is_in_recovery()").catch(() => ""), { timeout: 60_000 }).toBe("f");
  await sql("insert into t values (0)");
  expect((await control(command.dataDirectory, "restart")).code).toBe(0);
  expect(await sql("select count(*), current_setting('archive_mode') from t")).toBe("1011|off");
  await lab.stop(command);
});
