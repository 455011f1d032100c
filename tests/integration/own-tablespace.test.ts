// One thing: a tablespace that a backup has itself, and whose making lies in WAL that the backup needs or has beside it.
import { chown, mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openPhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab } from "../support/physical/restore-lab.ts";
import { openStandby } from "../support/physical/standby.ts";
import { catchUp } from "../support/physical/standby-archive.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const moved = {
  reason: "TABLESPACE_NOT_IN_BACKUP",
  message: expect.stringContaining("while the backup was taken") as string,
  hint: expect.stringMatching(/^restore it to .*live space, or begin with a backup that was taken later/) as string,
};

/** Waits for the standby without a restartpoint. */
async function replayed(standby: PostgresServer, primary: PostgresServer): Promise<void> {
  const end = await primary.sql("postgres", "select pg_current_wal_lsn()");
  await expect.poll(() => standby.sql("postgres", `select pg_last_wal_replay_lsn() >= '${end}'`)).toBe("t");
}

// A standby's backup begins with its last restartpoint, in the middle of a segment.
test.each([
  { isReplayed: false, settle: catchUp, elsewhere: "1000" },
  { isReplayed: true, settle: replayed, elsewhere: expect.objectContaining(moved) as unknown },
])("it comes back at its place; elsewhere unless the making is replayed, here $isReplayed", async (given) => {
  await using primary = await openPostgresServer({ major: 15, settings: { autovacuum: "off" } });
  await using standby = await openStandby(primary);
  await using backups = await openPhysicalLab(standby);
  await using lab = await openRestoreLab(standby, backups.repository);
  const [place, other] = [join(lab.folder, "live space"), join(lab.folder, "other")];
  for (const folder of [place, other]) {
    await mkdir(folder);
    await chown(folder, primary.owner.uid, primary.owner.gid);
  }
  await primary.sql("postgres", "select pg_switch_wal()");
  await catchUp(standby, primary);
  await primary.sql("postgres", `create tablespace new location '${place}'`);
  await primary.sql("postgres", "create table n tablespace new as select id from generate_series(1, 1000) id");
  await given.settle(standby, primary);
  const oid = Number(await primary.sql("postgres", "select oid from pg_tablespace where spcname = 'new'"));
  const command = backups.command();
  await backups.take(command);
  const restoreTo = async (name: string, location: string) => {
    const tablespaces = [{ oid, location, named: location !== place }];
    const restored = await lab.command(name, [command.backup], { tablespaces });
    await lab.restore(restored);
    const count = await lab.sql(restored, "select count(*) from n");
    await lab.stop(restored);
    return count;
  };
  expect(await restoreTo("elsewhere", other).catch((error: unknown) => error)).toEqual(given.elsewhere);
  await primary.stop();
  await standby.stop();
  await rename(place, `${place} aside`);
  expect(await restoreTo("back", place)).toBe("1000");
});
