// One thing: physical backups that leave their WAL to the archive, from the wait for it to a server recovered by it.
import { chmod, chown, mkdir, mkdtemp, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import type { BackupPhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { Failure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { archiveInto } from "../support/physical/archive-into.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { startRecovered } from "../support/physical/recovered-server.ts";
import { openRestoreLab } from "../support/physical/restore-lab.ts";
import { runRecipe } from "../support/physical/run-recipe.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const patient = { timeout: 60_000, interval: 50 };
const rows = "select count(*), md5(string_agg(t::text, ',' order by id)) from big t";

let key: AgeKey;
beforeAll(async () => {
  key = await makeAgeKey();
});

describe.each([
  [15, true],
  [18, false],
])("PostgreSQL %i, encrypted %s", (major, isEncrypted) => {
  let server: PostgresServer;
  let lab: PhysicalLab;
  let state: string;
  let parent: BackupAddress | undefined;
  beforeAll(async () => {
    state = await mkdtemp(join(tmpdir(), "coppice-archived-"));
    const summaries = major >= 17 ? { summarize_wal: "on" } : {};
    server = await openPostgresServer({ major, settings: { wal_keep_size: "1GB", ...summaries } });
    await server.sql("postgres", "create table big as select id, md5(id::text) from generate_series(1, 20000) id");
    lab = await openPhysicalLab(server);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    await rm(state, { recursive: true, force: true });
  });

  const recipients = () => (isEncrypted ? [key.recipient] : []);
  const command = (walWaitSeconds = 60, more: Partial<BackupPhysicalCommand> = {}) => {
    const options = { walEmbedded: false, walArchived: true, walWait: { seconds: BigInt(walWaitSeconds) } };
    const given = lab.command(options, recipients());
    return Object.assign(given, { walRepository: given.backup.repository, ...more });
  };

  /** Rows as they are when the RECOVER.txt of the backup has done its work and the server has started. */
  async function recovered(folder: string, settings: string[] = []): Promise<string> {
    await using made = await runRecipe(server, folder, { key, settings });
    await using restored = await startRecovered(server, made.data);
    expect(await restored.sql("postgres", "show archive_mode")).toBe("off");
    return await restored.sql("postgres", rows);
  }

  const archive = (into: Pick<BackupPhysicalCommand, "connection" | "backup">) => archiveInto(server, into, state);

  test("without any WAL in the archive the backup ends, says which file is missing, and leaves nothing", async () => {
    const wanted = command(1);
    expect(await lab.take(wanted).catch((error: unknown) => error)).toMatchObject({
      reason: "WAL_MISSING",
      message: expect.stringMatching(/^the archive lacks 0{7}1[0-9A-F]{16}: the backup needs WAL from /) as string,
      hint: expect.stringContaining("coppice wal status shop") as string,
    });
    expect(await readdir(lab.folderOf(wanted.backup)).catch(() => [])).toEqual([]);
    expect(lab.leavings).toEqual([]);
    const senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'";
    await expect.poll(() => server.sql("postgres", senders), patient).toBe("0");
    const without = lab.command({ walEmbedded: false, walArchived: true });
    await expect(lab.take(without)).rejects.toMatchObject({ reason: "WAL_NOT_ARCHIVED" });
  });

  test("it counts only when all its WAL is there, and is verified and recovered with what the archive holds", async () => {
    const slot = "select pg_create_physical_replication_slot('archive', true)";
    await server.sql("postgres", slot);
    const wanted = command();
    const folder = lab.folderOf(wanted.backup);
    const seen = lab.progress.length;
    const before = await server.sql("postgres", rows);
    const taking = lab.take(wanted);
    const phases = () => lab.progress.slice(seen).map(({ phase, item }) => `${phase} ${item}`);
    await expect.poll(() => phases().at(-1), patient).toMatch(/^waiting for WAL [0-9A-F]{24}$/);
    expect(await readdir(folder)).not.toContain("manifest.json");
    await using running = await archive(wanted);
    const { manifest, storedBytes } = await taking;
    const content = physicalContent(manifest);
    expect(content).toMatchObject({ walEmbedded: false, timeline: 1 });
    expect(content.wal).toBeUndefined();
    expect(content.archivedWal.map(({ encrypted }) => encrypted)).toContain(isEncrypted);
    expect(await readdir(folder)).toContain("manifest.json");

    const verified = await lab.verify(wanted.backup, key.identityFile);
    expect(verified.failure).toBeUndefined();
    expect(verified.result.bytes).toBeGreaterThan(storedBytes);
    const last = content.archivedWal.at(-1)?.objects[0]?.key ?? "";
    const file = join(lab.repository, "cls_test/wal", running.systemIdentifier, last);
    await rename(file, `${file}.away`);
    expect((await lab.verify(wanted.backup, key.identityFile)).result.problems).toMatchObject([{ affects: "WAL" }]);
    await rename(`${file}.away`, file);
    {
      await using handle = await open(file, "r+");
      const { buffer: kept } = await handle.read(Buffer.alloc(8), 0, 8, 40);
      await handle.write(Buffer.from("damaged!"), 0, 8, 40);
      expect((await lab.verify(wanted.backup, key.identityFile)).failure).toMatchObject({ reason: "DIGEST_MISMATCH" });
      await handle.write(kept, 0, 8, 40);
    }

    const now = `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
    const time = await server.sql("postgres", now);
    // What comes later is in the archive, and not in what is recovered to the backup's end.
    await server.sql("postgres", "insert into big select id, 'later' from generate_series(50000, 51000) id");
    const after = await server.sql("postgres", rows);
    const end = parseLsn(await server.sql("postgres", "select pg_switch_wal()"));
    const names = async () => (await readdir(join(file, ".."))).toSorted();
    const newest = async () => parseInt((await names()).at(-1)?.slice(16, 24) ?? "0", 16);
    await expect.poll(newest, patient).toBeGreaterThanOrEqual(Number((end - 1n) >> 24n));
    expect(await recovered(folder)).toBe(before);
    expect(await recovered(folder, [`RECOVER_TO=${time}`])).toBe(before);
    expect(await recovered(folder, ["RECOVER_TO=latest"])).toBe(after);

    // Without a server that is started meanwhile its WAL is put where the server looks.
    await using place = await openRestoreLab(server, lab.repository);
    const into = await place.command("data", [wanted.backup], { start: false });
    await place.restore(into, { identities: key.identityFile });
    await using restored = await startRecovered(server, into.dataDirectory);
    expect(await restored.sql("postgres", rows)).toBe(before);
    parent = wanted.backup;
  });

  test("its RECOVER.txt takes a hole in the archive for no end of it, until somebody says so", async () => {
    await using running = await archive(command());
    const folder = lab.folderOf(parent ?? command().backup);
    const wal = join(lab.repository, "cls_test/wal", running.systemIdentifier);
    const next = async () => {
      const now = `to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
      const time = await server.sql("postgres", `select ${now}`);
      const state = await server.sql("postgres", rows);
      await server.sql("postgres", "insert into big select max(id) + 1, 'next' from big");
      const name = await server.sql("postgres", "select pg_walfile_name(pg_current_wal_insert_lsn())");
      await server.sql("postgres", "select pg_switch_wal()");
      const file = join(wal, name.slice(0, 8), name.slice(0, 16), name);
      await expect.poll(() => readdir(join(file, "..")), patient).toContain(name);
      return { file, name, time, state };
    };
    const [kept, lost, later] = [await next(), await next(), await next()];
    await rename(lost.file, `${wal}.away`);
    const lacks = `the archive lacks ${lost.name}, and holds later WAL, ${later.name}`;
    const warning: unknown = expect.stringMatching(`^${lacks}: `);
    // The commit that ends recovery to this time lies right before the hole.
    await using before = await runRecipe(server, folder, { key, settings: [`RECOVER_TO=${kept.time}`], warning });
    await using early = await startRecovered(server, before.data);
    expect(await early.sql("postgres", rows)).toBe(kept.state);
    const stopped = new RegExp(`${lacks}[^]*FATAL: .*${lost.name}`);
    await using behind = await runRecipe(server, folder, { key, settings: [`RECOVER_TO=${later.time}`], warning });
    await expect(startRecovered(server, behind.data)).rejects.toThrow(stopped);
    // Segments lie in folders that the agent made for itself alone: none of them is missing.
    await using closed = await runRecipe(server, folder, { key, settings: ["RECOVER_TO=latest"], warning });
    const copy = join(closed.data, "../copy");
    const run = join(copy, "wal", running.systemIdentifier, lost.name.slice(0, 8), lost.name.slice(0, 16));
    await chmod(run, 0);
    await expect(startRecovered(server, closed.data)).rejects.toThrow(`may not read and enter ${run}: let it`);
    const asOwner = [`--reuid=${server.owner.uid}`, `--regid=${server.owner.gid}`, "--init-groups", "env"];
    const again = [
      ...asOwner,
      "--chdir",
      join(copy, "backups", basename(folder)),
      "RECOVER_TO=latest",
      "IDENTITY=none",
    ];
    const refused = await runProgram("setpriv", [...again, "bash", "RECOVER.txt"], {
      env: { PATH: `${server.binDir}:${process.env["PATH"]}` },
    });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/may not read and enter .*: let it/);
    await using latest = await runRecipe(server, folder, { key, settings: ["RECOVER_TO=latest"], warning });
    await expect(startRecovered(server, latest.data)).rejects.toThrow(stopped);
    const fetch = join(latest.data, "fetch_wal.bash");
    await writeFile(fetch, (await readFile(fetch, "utf8")).replace(/^TIMELINES=.*/m, "TIMELINES="));
    await using accepted = await startRecovered(server, latest.data);
    expect(await accepted.sql("postgres", rows)).toBe(lost.state);
    await rename(`${wal}.away`, lost.file);
  });

  test("its RECOVER.txt ends at the fork where a later timeline has no WAL yet, and the older one goes on", async () => {
    await using running = await archive(command());
    const wal = join(lab.repository, "cls_test/wal", running.systemIdentifier);
    await server.sql("postgres", "insert into big select max(id) + 1, 'before the fork' from big");
    const fork = await server.sql("postgres", "select pg_current_wal_flush_lsn()");
    const before = await server.sql("postgres", rows);
    for (const _segment of ["of the fork", "behind it"]) {
      await server.sql("postgres", "insert into big select max(id) + 1, 'abandoned' from big");
      const name = await server.sql("postgres", "select pg_walfile_name(pg_current_wal_insert_lsn())");
      await server.sql("postgres", "select pg_switch_wal()");
      const folder = join(wal, name.slice(0, 8), name.slice(0, 16));
      await expect.poll(() => readdir(folder), patient).toContain(name);
    }
    const history = join(wal, "history/00000002.history");
    await mkdir(join(wal, "history"), { recursive: true });
    await writeFile(history, zstdCompressSync(`1\t${fork}\tno recovery target specified\n`));
    expect(await recovered(lab.folderOf(parent ?? command().backup), ["RECOVER_TO=latest"])).toBe(before);
    await rm(history);
  });

  test("one that is cancelled while it waits leaves nothing", async () => {
    const wanted = command();
    const stop = new AbortController();
    const seen = lab.progress.length;
    const taking = lab.take(wanted, { signal: stop.signal }).catch((error: unknown) => error);
    await expect.poll(() => lab.progress.slice(seen).at(-1)?.phase, patient).toBe("waiting for WAL");
    stop.abort(new Failure("CANCELLED", "enough"));
    expect(await taking).toMatchObject({ reason: "CANCELLED" });
    expect(await readdir(lab.folderOf(wanted.backup)).catch(() => [])).toEqual([]);
    expect(lab.leavings).toEqual([]);
  });

  test.each(major >= 17 && !isEncrypted ? [major] : [])(
    "an incremental leaves its WAL there too, and is recovered from its own and its parent's folder",
    async () => {
      await using _running = await archive(command());
      await server.sql("postgres", "insert into big select id, 'changed' from generate_series(60000, 60100) id");
      const before = await server.sql("postgres", rows);
      const wanted = command(60, { incremental: true, ...(parent ? { parent } : {}) });
      const { manifest } = await lab.take(wanted);
      expect(physicalContent(manifest)).toMatchObject({ walEmbedded: false, parentBackupId: parent?.backupId });
      expect((await lab.verify(wanted.backup)).failure).toBeUndefined();
      await server.sql("postgres", "insert into big values (70000, 'later')");
      expect(await recovered(lab.folderOf(wanted.backup))).toBe(before);
    },
  );

  test("on a later timeline its history has to be there too, and is fetched", async () => {
    await server.stop("fast");
    const signalFile = join(server.dataDir, "standby.signal");
    await writeFile(signalFile, "");
    await chown(signalFile, server.owner.uid, server.owner.gid);
    await server.start();
    await server.sql("postgres", "select pg_promote()");
    await using _running = await archive(command());
    const before = await server.sql("postgres", rows);
    const wanted = command();
    const content = physicalContent((await lab.take(wanted)).manifest);
    expect(content).toMatchObject({ timeline: 2, walEmbedded: false });
    expect(content.archivedWal[0]?.objects[0]?.key).toBe("history/00000002.history");
    expect((await lab.verify(wanted.backup, key.identityFile)).failure).toBeUndefined();
    expect(await recovered(lab.folderOf(wanted.backup), ["RECOVER_TO=latest"])).toBe(before);
  });
});
