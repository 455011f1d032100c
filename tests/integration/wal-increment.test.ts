// One thing: incremental backups by archived WAL, from the restore point to a server recovered to it.
import { chmod, chown, mkdtemp, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BackupPhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { freePort } from "../support/free-port.ts";
import { archiveInto } from "../support/physical/archive-into.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { startRecovered } from "../support/physical/recovered-server.ts";
import { runRecipe } from "../support/physical/run-recipe.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const main = join(import.meta.dirname, "../../agent/src/main.ts");
const rows = "select count(*), md5(string_agg(t::text, ',' order by id)) from big t";

let key: AgeKey;
beforeAll(async () => {
  key = await makeAgeKey();
});

describe.each([
  [15, true],
  [18, false],
])("PostgreSQL %i, encrypted %s", { timeout: 120_000 }, (major, isEncrypted) => {
  let server: PostgresServer;
  let lab: PhysicalLab;
  let state: string;
  beforeAll(async () => {
    state = await mkdtemp(join(tmpdir(), "coppice-increment-"));
    server = await openPostgresServer({ major, settings: { wal_keep_size: "1GB" } });
    await server.sql("postgres", "create table big as select id, md5(id::text) from generate_series(1, 20000) id");
    await server.sql("postgres", "select pg_create_physical_replication_slot('archive', true)");
    lab = await openPhysicalLab(server);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await rm(state, { recursive: true, force: true });
  });

  const command = (more: Partial<BackupPhysicalCommand> = {}, waitSeconds = 60) => {
    const options = {
      walEmbedded: false,
      walArchived: true,
      walWait: { seconds: BigInt(waitSeconds) },
      ...(more.incremental ? { method: IncrementalMethod.WAL } : {}),
    };
    const given = lab.command(options, isEncrypted ? [key.recipient] : []);
    return Object.assign(given, { walRepository: given.backup.repository, ...more });
  };
  const increment = (parent: BackupAddress, waitSeconds?: number) =>
    command({ incremental: true, parent }, waitSeconds);
  const archive = () => archiveInto(server, command(), state);

  /** Rows as they are when the RECOVER.txt of the backup has done its work and the server has started. */
  async function recovered({ folder }: BackupAddress, settings: string[] = []): Promise<string> {
    const place = join(lab.repository, "cls_test/backups", folder);
    await using made = await runRecipe(server, place, { key, settings });
    await using restored = await startRecovered(server, made.data);
    expect(await restored.sql("postgres", "show archive_mode")).toBe("off");
    return await restored.sql("postgres", rows);
  }

  let newest: BackupAddress;

  test("each goes on from the one before it, holds nothing but WAL, and is recovered to its very restore point", async () => {
    await using running = await archive();
    const full = command();
    const { manifest: base } = await lab.take(full);
    await server.sql("postgres", "insert into big select id, 'first' from generate_series(50000, 51000) id");
    const atFirst = await server.sql("postgres", rows);
    const first = increment(full.backup);
    const taken = await lab.take(first);
    expect(taken.manifest).toMatchObject({ kind: BackupKind.INCREMENTAL, complete: true });
    const content = physicalContent(taken.manifest);
    const { stopLsn: parentStopLsn } = physicalContent(base);
    expect(content).toMatchObject({
      method: IncrementalMethod.WAL,
      parentBackupId: full.backup.backupId,
      startLsn: parentStopLsn,
      parentStopLsn,
      timeline: 1,
      walEmbedded: false,
      restorePoint: expect.stringMatching(new RegExp(`^coppice_${first.backup.backupId}_`)) as string,
    });
    expect((await readdir(lab.folderOf(first.backup))).toSorted()).toEqual(["RECOVER.txt", "manifest.json"]);
    expect(taken.storedBytes).toBeLessThan(100_000n);

    await server.sql("postgres", "delete from big where id < 1000");
    const atSecond = await server.sql("postgres", rows);
    const second = increment(first.backup);
    const last = physicalContent((await lab.take(second)).manifest);
    expect(last).toMatchObject({ parentBackupId: first.backup.backupId, startLsn: content.stopLsn });
    await server.sql("postgres", "update big set md5 = 'later'; select pg_switch_wal()");
    // What is being written is in nobody's way who copies the repository.
    await running[Symbol.asyncDispose]();

    expect(await recovered(second.backup)).toBe(atSecond);

    const verified = await lab.verify(second.backup, key.identityFile);
    expect(verified.failure).toBeUndefined();
    const file = join(
      lab.repository,
      "cls_test/wal",
      running.systemIdentifier,
      last.archivedWal.at(-1)?.objects[0]?.key ?? "",
    );
    expect(verified.result.bytes).toBeGreaterThan((await stat(file)).size);
    {
      await using handle = await open(file, "r+");
      const { buffer: kept } = await handle.read(Buffer.alloc(8), 0, 8, 40);
      await handle.write(Buffer.from("damaged!"), 0, 8, 40);
      expect((await lab.verify(second.backup, key.identityFile)).failure).toMatchObject({ reason: "DIGEST_MISMATCH" });
      await handle.write(kept, 0, 8, 40);
    }
    newest = second.backup;

    // What follows does not depend on what the server is.
    if (!isEncrypted) return;
    // With nothing but the repository and the agent's program.
    await chmod(state, 0o755);
    await chown(state, server.owner.uid, server.owner.gid);
    await writeFile(join(state, "kit.txt"), key.identityFile, { mode: 0o600 });
    const into = join(state, "alone");
    const port = await freePort();
    const words = ["shop", "--repo", lab.repository, "--into", into, "--backup", first.backup.backupId];
    const how = ["--immediate", "--start", "--port", String(port)];
    const identity = ["--identity", join(state, "kit.txt")];
    const ran = await runProgram(process.execPath, [main, "restore-directory", ...words, ...how, ...identity], {
      env: process.env,
    });
    try {
      expect({ code: ran.code, stderr: ran.stderr }).toEqual({
        code: 0,
        stderr: expect.not.stringContaining("✗") as unknown,
      });
      expect(await ask(server, port, "postgres", rows)).toBe(atFirst);
    } finally {
      await asServer(server, "pg_ctl", ["-D", into, "-m", "immediate", "-w", "stop"]);
    }
  });

  if (!isEncrypted) return;
  test("it goes on from a backup that has its WAL in itself, too", async () => {
    await using running = await archive();
    const full = lab.command({}, isEncrypted ? [key.recipient] : []);
    await lab.take(full);
    await server.sql("postgres", "insert into big values (90000, 'beside')");
    const before = await server.sql("postgres", rows);
    const wanted = increment(full.backup);
    await lab.take(wanted);
    await server.sql("postgres", "insert into big values (90001, 'later')");
    await running[Symbol.asyncDispose]();
    expect(await recovered(wanted.backup)).toBe(before);
    newest = wanted.backup;
  });

  test("without its WAL in the archive it ends, names the missing file, and leaves nothing", async () => {
    const wanted = increment(newest, 1);
    expect(await lab.take(wanted).catch((error: unknown) => error)).toMatchObject({
      reason: "WAL_MISSING",
      message: expect.stringMatching(/^the archive lacks 0{7}1[0-9A-F]{16}: the backup needs WAL from /) as string,
    });
    expect(await readdir(lab.folderOf(wanted.backup)).catch(() => [])).toEqual([]);
    expect(lab.leavings).toEqual([]);
  });

  test("a role that may mark no restore point is told the statement that mends it", async () => {
    await server.sql(
      "postgres",
      `create role "no marks" login replication password '${server.password}'; grant pg_read_all_settings to "no marks"`,
    );
    const wanted = increment(newest, 1);
    const endpoint = wanted.connection?.endpoint;
    if (!endpoint) throw new Error("it has no endpoint");
    endpoint.user = "no marks";
    expect(await lab.take(wanted).catch((error: unknown) => error)).toMatchObject({
      reason: "PRIVILEGE_MISSING",
      hint: expect.stringContaining(
        'GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO "no marks"',
      ) as string,
    });
    expect(await readdir(lab.folderOf(wanted.backup)).catch(() => [])).toEqual([]);
  });

  test("where the chain cannot go on it is a full that says why", async () => {
    await using _running = await archive();
    const reasonOf = async (wanted: BackupPhysicalCommand) => {
      const { manifest } = await lab.take(wanted);
      expect(manifest).toMatchObject({ kind: BackupKind.FULL });
      return physicalContent(manifest).fullReason;
    };
    const gap = "the archive lacks WAL from 0/5000000 to 0/8000000";
    expect(await reasonOf(Object.assign(increment(newest), { fullReason: gap }))).toBe(gap);
    expect(await reasonOf(command({ incremental: true }))).toContain("the repository that it goes into has no backup");
    const gone = { ...newest, backupId: "bkp_gone", folder: "20261121T000000Z_full_bkp_gone" };
    expect(await reasonOf(increment(gone))).toContain("is missing");
  });

  test("after a promotion it is a full, and of a standby none is taken", async () => {
    await server.stop("fast");
    const signalFile = join(server.dataDir, "standby.signal");
    await writeFile(signalFile, "");
    await chown(signalFile, server.owner.uid, server.owner.gid);
    await server.start();
    await expect(lab.take(increment(newest, 1))).rejects.toMatchObject({ reason: "NOT_SUPPORTED" });
    await server.sql("postgres", "select pg_promote()");
    await using _running = await archive();
    const { manifest } = await lab.take(increment(newest));
    expect(manifest).toMatchObject({ kind: BackupKind.FULL });
    expect(physicalContent(manifest).fullReason).toBe(
      "the server is on timeline 2, and its parent was taken on timeline 1",
    );
  });
});
