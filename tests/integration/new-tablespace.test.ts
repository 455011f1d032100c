// One thing: tablespaces that are made after a backup. Replayed, their records lead to the very folder of the server that
// wrote them, which may be the living one's.
import { createHash } from "node:crypto";
import { chmod, chown, cp, mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { requireOwnWal } from "../../agent/src/physical/restore/unpacked/own-wal.ts";
import { openReplay } from "../../agent/src/wal/fetch/open-replay.ts";
import { openPhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { receives, watchArchive, writeSegments } from "../support/wal/running-archive.ts";

async function portray(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const digest = async (file: string) =>
    `${file} ${createHash("sha256")
      .update(await readFile(file))
      .digest("hex")}`;
  return await Promise.all(files.toSorted().map(digest));
}

test.each([15, 18])("on PostgreSQL %i none is replayed into a folder that is in use, or not there", async (major) => {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await openPostgresServer({ major, settings: { wal_keep_size: "1GB", autovacuum: "off" } }));
  const archives = stack.use(await openArchiveLab(server));
  const archiving = stack.use(watchArchive(archives));
  await receives(server);
  const backups = stack.use(await openPhysicalLab(server));
  const lab = stack.use(await openRestoreLab(server, backups.repository));
  const workFolder = await mkdtemp(join(tmpdir(), "coppice-replay-"));
  stack.defer(() => rm(workFolder, { recursive: true, force: true }));
  await chmod(workFolder, 0o711);
  const backup = backups.command();
  await backups.take(backup);
  const chain = [backup.backup];
  const place = join(lab.folder, "made later, ü");
  const makePlace = async () => {
    await mkdir(place);
    await chown(place, server.owner.uid, server.owner.gid);
  };
  await makePlace();
  // All in one segment: what comes before the record can be had.
  await server.sql("postgres", "create table t as select 1 as id");
  const before = Date.parse(await server.sql("postgres", "select clock_timestamp()"));
  await server.sql("postgres", "insert into t values (2)");
  await server.sql("postgres", `create tablespace new location '${place}'`);
  await server.sql("postgres", "create table n tablespace new as select id from generate_series(1, 1000) id");
  await archiving.stored(await writeSegments(server));
  await server.sql("postgres", "update n set id = -id; checkpoint");
  await archiving.stored(await writeSegments(server));

  async function restore(command: RestorePhysicalCommand, isScratch = false) {
    await using replay = await openReplay({
      storage: archives.storage,
      workFolder,
      user: { ...server.owner, home: "/" },
      server: { dataDirectory: command.dataDirectory, isScratch },
      wal: { place: archives.archive, signal: AbortSignal.timeout(120_000) },
      onServed: () => {},
    });
    const { restoreCommand, refused } = replay;
    return await lab.restore(command, { restoreCommand, refusedWal: refused });
  }
  const refusal = {
    reason: "TABLESPACE_NOT_IN_BACKUP",
    message: expect.stringContaining(place) as string,
    hint: expect.stringMatching(/^choose a target before 0\/[0-9A-F]+/) as string,
  };

  // The living server has it.
  const alive = await portray(place);
  expect(alive.length).toBeGreaterThan(0);
  const latest = await lab.command("latest", chain);
  for (const isScratch of [false, true]) await expect(restore(latest, isScratch)).rejects.toMatchObject(refusal);
  expect(await portray(place)).toEqual(alive);
  expect((await readdir(lab.folder)).filter((each) => each.includes("latest"))).toEqual([]);

  // What was before it in the same segment is to be had.
  const target = { point: { case: "time" as const, value: timestampFromMs(before) } };
  const earlier = await lab.command("earlier", chain, { target });
  await restore(earlier);
  expect(await lab.sql(earlier, "select string_agg(id::text, ',') from t")).toBe("1");
  await lab.stop(earlier);

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
  await requireOwnWal({ dataDirectory: own, isScratch: false });
  await expect(requireOwnWal({ dataDirectory: other, isScratch: false })).rejects.toMatchObject(refusal);
  await rm(place, { recursive: true });
  await rename(aside, place);
  await server.start();
  expect(await server.sql("postgres", "select count(*), sum(id) from n")).toBe("1000|-500500");
});
