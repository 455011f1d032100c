// One thing: a tablespace that is made on one timeline says nothing of another one, whatever is fetched ahead.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openStandby } from "../support/physical/standby.ts";
import { catchUp } from "../support/physical/standby-archive.ts";
import { portray } from "../support/physical/portray.ts";
import type { PostgresServer } from "../support/postgres-servers.ts";
import { openReplayLab, type ReplayLab } from "../support/wal/replay-lab.ts";
import { writeSegments } from "../support/wal/running-archive.ts";

/** Archives what a server has ended of timeline 2. */
async function archive({ archives }: ReplayLab, heir: PostgresServer): Promise<void> {
  await heir.sql("postgres", "select pg_switch_wal()");
  const current = await heir.sql("postgres", "select pg_walfile_name(pg_current_wal_insert_lsn())");
  const folder = join(heir.dataDir, "pg_wal");
  const names = (await readdir(folder)).filter((name) => /^00000002(\.history|[0-9A-F]{16})$/.test(name));
  for (const name of names.filter((each) => each.includes(".") || each < current)) {
    const path = join(archives.folder, "repository", walKey(archives.archive, name));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, zstdCompressSync(await readFile(join(folder, name))));
  }
}

test("the one that is replayed decides, not one that was left", async () => {
  await using replay = await openReplayLab(15);
  const { server, archiving, backups, lab, restore } = replay;
  const backup = backups.command();
  await backups.take(backup);
  await server.sql("postgres", "create table t as select 1 as id");
  await archiving.stored(await writeSegments(server));
  await using heir = await openStandby(server, { wal_keep_size: "1GB", autovacuum: "off" });
  await catchUp(heir, server);
  await heir.sql("postgres", "select pg_promote()");
  for (const id of [2, 3, 4]) {
    await heir.sql("postgres", `insert into t values (${id})`);
    await archive(replay, heir);
  }
  // The old primary goes on for a while.
  await server.sql("postgres", `create tablespace old location '${await replay.makeFolder("old")}'`);
  for (const _ of [1, 2]) await archiving.stored(await writeSegments(server));
  const along = await lab.command("along", [backup.backup], { target: { timeline: 2 } });
  await restore(along);
  expect(await lab.sql(along, "select string_agg(id::text, ',' order by id) from t")).toBe("1,2,3,4");
  await lab.stop(along);

  const living = await replay.makeFolder("living");
  await heir.sql("postgres", `create tablespace living location '${living}'`);
  await heir.sql("postgres", "create table n tablespace living as select id from generate_series(1, 1000) id");
  await archive(replay, heir);
  await heir.sql("postgres", "update n set id = -id; checkpoint");
  const before = await portray(living);
  const again = await lab.command("again", [backup.backup], { target: { timeline: 2 } });
  await expect(restore(again)).rejects.toMatchObject({
    reason: "TABLESPACE_NOT_IN_BACKUP",
    message: expect.stringContaining(living) as string,
  });
  expect(await portray(living)).toEqual(before);
});
