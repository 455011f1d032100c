// One thing: disks that are full while WAL is archived: the agent's own, and the one of pg_wal.
import { cp, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect, test } from "vitest";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { expectSame, receives, watchArchive, writeSegments } from "../support/wal/running-archive.ts";

const isRoot = process.getuid?.() === 0;
const why = "only root can mount a disk to fill";
const megabyte = 1 << 20;
const patient = { timeout: 60_000, interval: 50 };

interface Disk extends AsyncDisposable {
  resize(megabytes: number): Promise<void>;
}

/** A disk of that size in the folder, which is there. */
async function mountDisk(folder: string, megabytes: number, options = ""): Promise<Disk> {
  const mount = async (args: readonly string[]) => {
    const { code, stderr } = await runProgram("mount", [...args, "none", folder], { env: process.env });
    if (code !== 0) throw new Error(stderr);
  };
  await mount(["-t", "tmpfs", "-o", `size=${megabytes}m${options}`]);
  return {
    resize: (more) => mount(["-o", `remount,size=${more}m`]),
    async [Symbol.asyncDispose]() {
      await runProgram("umount", ["--lazy", folder], { env: process.env });
    },
  };
}

test("an agent whose disk is full says so, begins and goes on when there is room, and leaves nothing out", async ({
  skip,
}) => {
  if (!isRoot) skip(why);
  await using server = await openPostgresServer({ major: 18, settings: { wal_keep_size: "1GB" } });
  await using lab = await openArchiveLab(server);
  const state = join(lab.folder, "state");
  await mkdir(state);
  await using _disk = await mountDisk(state, 40);
  const ballast = join(state, "ballast");
  const fill = () => writeFile(ballast, Buffer.alloc(40 * megabyte)).catch(() => {});
  await fill();
  // It may find no room even for what it has to make before it receives.
  await using running = watchArchive(lab);
  const first = await writeSegments(server, 1);
  await running.inTrouble("SPACE_MISSING");
  await rm(ballast);
  await running.stored(first);

  // While it receives, with what it has not stored yet on that disk.
  const repository = join(lab.folder, "repository");
  await rename(repository, `${repository}-away`);
  const behind = await writeSegments(server, 6);
  await running.inTrouble("REPOSITORY_UNREACHABLE");
  await rename(`${repository}-away`, repository);
  await running.stored(behind);
  await fill();
  const later = await writeSegments(server, 2);
  await running.inTrouble("SPACE_MISSING");
  await rm(ballast);
  await running.stored(later);
  const [extent, ...others] = running.extents();
  expect(others).toEqual([]);
  if (extent) await expectSame(lab, server, extent);
  expect(running.troubles().toSorted()).toEqual(["REPOSITORY_UNREACHABLE", "SPACE_MISSING"]);
});

/** Moves the stopped server's pg_wal onto a disk of its own. */
async function moveWal(server: PostgresServer, folder: string, megabytes: number): Promise<Disk> {
  await mkdir(folder);
  const { uid, gid } = server.owner;
  const disk = await mountDisk(folder, megabytes, `,uid=${uid},gid=${gid},mode=700`);
  const wal = join(server.dataDir, "pg_wal");
  await cp(wal, folder, { recursive: true });
  await runProgram("chown", ["-R", `${uid}:${gid}`, folder], { env: { PATH: "/usr/bin:/bin" } });
  await rm(wal, { recursive: true });
  await symlink(folder, wal);
  await runProgram("chown", ["-h", `${uid}:${gid}`, wal], { env: { PATH: "/usr/bin:/bin" } });
  return disk;
}

test("a server whose pg_wal is full, because the store was away, loses nothing that it had acknowledged", async ({
  skip,
}) => {
  if (!isRoot) skip(why);
  const settings = { max_wal_size: "48MB", min_wal_size: "32MB", checkpoint_timeout: "30s" };
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  await server.stop("fast");
  // Beside the data directory, where the server's user can go.
  const folder = join(server.dataDir, "../wal-disk");
  await using disk = await moveWal(server, folder, 112);
  await server.start();
  await using running = watchArchive(lab);
  await receives(server);
  await running.stored(await writeSegments(server, 1));
  const repository = join(lab.folder, "repository");
  await rename(repository, `${repository}-away`);
  let acknowledged = 0;
  await expect
    .poll(async () => {
      try {
        await server.sql(
          "postgres",
          `insert into load select ${acknowledged + 1}, repeat('x', 100) from generate_series(1, 20000)`,
        );
        acknowledged += 1;
        return "goes on";
      } catch {
        return "is down";
      }
    }, patient)
    .toBe("is down");
  expect(await readFile(server.logFile, "utf8")).toMatch(/PANIC: .* No space left on device/);
  await server.stop("kill");
  await rename(`${repository}-away`, repository);
  await disk.resize(512);
  await server.start();
  const count = "select count(distinct id) from load where text like 'xxx%'";
  expect(Number(await server.sql("postgres", count))).toBeGreaterThanOrEqual(acknowledged);
  const end = await writeSegments(server, 1);
  await running.stored(end);
  const [extent, ...others] = running.extents();
  expect(others).toEqual([]);
  expect(extent?.endLsn).toBeGreaterThanOrEqual(end);
  const restart = "select restart_lsn from pg_replication_slots where slot_name = 'archive'";
  await expect.poll(async () => parseLsn(await server.sql("postgres", restart)), patient).toBeGreaterThanOrEqual(end);
});
