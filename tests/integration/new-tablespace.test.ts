// One thing: tablespaces that are made after a backup. Replayed, their records lead to the very folder of the server that
// wrote them, which may be the living one's.
import { cp, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { requireOwnWal } from "../../agent/src/physical/restore/unpacked/own-wal.ts";
import { portray } from "../support/physical/portray.ts";
import { openReplayLab } from "../support/wal/replay-lab.ts";
import { writeSegments } from "../support/wal/running-archive.ts";

test.each([15, 18])("on PostgreSQL %i none is replayed into a folder that is in use, or not there", async (major) => {
  await using replay = await openReplayLab(major);
  const { server, archiving, backups, lab, restore } = replay;
  const backup = backups.command();
  await backups.take(backup);
  const chain = [backup.backup];
  const makePlace = () => replay.makeFolder("made later, ü");
  const place = await makePlace();
  // All in one segment: what comes before the record can be had.
  await server.sql("postgres", "create table t as select 1 as id");
  const before = Date.parse(await server.sql("postgres", "select clock_timestamp()"));
  await server.sql("postgres", "insert into t values (2)");
  await server.sql("postgres", `create tablespace new location '${place}'`);
  await server.sql("postgres", "create table n tablespace new as select id from generate_series(1, 1000) id");
  await archiving.stored(await writeSegments(server));
  await server.sql("postgres", "update n set id = -id; checkpoint");
  await archiving.stored(await writeSegments(server));

  const refusal = {
    reason: "TABLESPACE_NOT_IN_BACKUP",
    message: expect.stringContaining(place) as string,
    hint: expect.stringMatching(/^recover to what was before it: LSN 0\/[0-9A-F]+/) as string,
  };

  // The living server has it.
  const alive = await portray(place);
  expect(alive.length).toBeGreaterThan(0);
  const latest = await lab.command("latest", chain);
  await expect(restore(latest, true)).rejects.toMatchObject(refusal);
  const refused = await restore(latest).catch((error: unknown) => error);
  expect(refused).toMatchObject(refusal);
  expect(await portray(place)).toEqual(alive);
  expect((await readdir(lab.folder)).filter((each) => each.includes("latest"))).toEqual([]);

  // What was before it in the same segment is to be had.
  const target = { point: { case: "time" as const, value: timestampFromMs(before) } };
  const earlier = await lab.command("earlier", chain, { target });
  await restore(earlier);
  expect(await lab.sql(earlier, "select string_agg(id::text, ',') from t")).toBe("1");
  await lab.stop(earlier);

  // The hint's own position is one that recovery can see.
  const lsn = /LSN (\S+),/.exec(String((refused as { hint?: string }).hint))?.[1] ?? "";
  const upTo = await lab.command("up to", chain, { target: { point: { case: "lsn", value: lsn } } });
  await restore(upTo);
  expect(await lab.sql(upTo, "select string_agg(id::text, ',') from t")).toBe("1,2");
  await lab.stop(upTo);

  // Where there is none, and an empty one.
  const aside = `${place} aside`;
  await server.stop();
  await rename(place, aside);
  const elsewhere = await lab.command("elsewhere", chain);
  await expect(restore(elsewhere)).rejects.toMatchObject(refusal);
  await makePlace();
  await restore(elsewhere);
  expect(await lab.sql(elsewhere, "select count(*), sum(id) from n")).toBe("1000|-500500");
  await lab.stop(elsewhere, "fast");

  // WAL that lies in the data directory itself: by its link it is its own, and nobody else's.
  const [own, other] = [elsewhere.dataDirectory, join(lab.folder, "other")];
  await mkdir(join(other, "pg_wal"), { recursive: true });
  const wal = (await readdir(join(server.dataDir, "pg_wal"))).filter((name) => /^[0-9A-F]{24}$/.test(name));
  for (const name of wal)
    for (const data of [own, other]) await cp(join(server.dataDir, "pg_wal", name), join(data, "pg_wal", name));
  await requireOwnWal({ dataDirectory: own, isScratch: false }, AbortSignal.timeout(60_000));
  await expect(
    requireOwnWal({ dataDirectory: other, isScratch: false }, AbortSignal.timeout(60_000)),
  ).rejects.toMatchObject(refusal);
  await rm(place, { recursive: true });
  await rename(aside, place);
  await server.start();
  expect(await server.sql("postgres", "select count(*), sum(id) from n")).toBe("1000|-500500");
});
