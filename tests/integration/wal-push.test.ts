// Archiving by archive_command on real servers: what is acknowledged is stored, nothing is overwritten, one history.
import { createHash, randomBytes } from "node:crypto";
import { chmod, chown, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { Failure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { openBudget } from "../../agent/src/budget.ts";
import { describe, expect, test } from "vitest";
import { openConnection } from "../../agent/src/postgres/connect.ts";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { applyCommand } from "../../agent/src/wal/push/archive-command.ts";
import type { ArchiverState } from "../../agent/src/wal/push/archiver-state.ts";
import { type Offer, openPushSocket, pushSocketPath } from "../../agent/src/wal/push/push-socket.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { compressWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { withdrawArchive } from "../../agent/src/wal/withdraw/withdraw-archive.ts";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { initServer, openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import {
  archiveBy,
  expectSame,
  extentsOf,
  offer,
  patient,
  socketOf,
  whenHanded,
  whenStored,
  writeSegments,
} from "../support/wal/push-lab.ts";

const size = 16n << 20n;
const settings = { archive_mode: "on", wal_keep_size: "1GB" };
const show = (server: PostgresServer, name: string) => server.sql("postgres", `show ${name}`);
const lastLook =
  "select query_start from pg_stat_activity where query like '%pg_prepared_xacts%' and pid <> pg_backend_pid() order by 1 limit 1";
const statOf = (server: PostgresServer, column: string) =>
  server.sql("postgres", `select coalesce(${column}::text, '') from pg_stat_archiver`);

/** What the agent does when the archive is given up. */
const withdraw = ({ archive, secret, folder: dataDirectory }: ArchiveLab) => {
  const ended = { archive, secret, dataDirectory, next: undefined, isSucceeded: false };
  const own = { clientFiles: { home: "/nonexistent" }, budget: openBudget(64 << 20) };
  return withdrawArchive({ ...ended, ...own }, AbortSignal.timeout(30_000));
};

async function keys(lab: ArchiveLab, part: string): Promise<string[]> {
  const listed = await Array.fromAsync(lab.storage.list("", AbortSignal.timeout(30_000)));
  return listed.map(({ key }) => key).filter((key) => key.includes(part));
}

describe.each([15, 18])("PostgreSQL %i", (major) => {
  test("hands over every file, is told so only when it is stored, and has its command back when that is over", async () => {
    await using server = await openPostgresServer({ major, settings });
    await using lab = await openArchiveLab(server);
    // Nothing archives yet: the server keeps it.
    await writeSegments(server, 3);
    {
      await using archiving = await archiveBy(lab, WalMode.PUSH);
      await whenHanded(archiving);
      expect(await show(server, "archive_command")).toContain(`push '${socketOf(lab)}' %p`);
      expect(await show(server, "archive_timeout")).toBe("1min");
      await server.sql("postgres", "select pg_backup_start('x', true); select pg_backup_stop(false)");
      const end = await writeSegments(server, 3);
      const report = await whenStored(archiving, end);
      expect(report).toMatchObject({ segmentBytes: size, timeline: 1, archiver: { mode: "on", failedCount: 0n } });
      expect(report.trouble).toBeUndefined();
      const [run, ...others] = extentsOf(report);
      expect(others).toEqual([]);
      await expectSame(lab, server, run ?? { timeline: 1, startLsn: 0n, endLsn: 0n }, size);
      expect(await keys(lab, ".backup")).toHaveLength(1);
      // Asked for again, as after a crash of the server: the same bytes are a success.
      const name = segmentName(1, end - size, size);
      expect(await offer(server.dataDir, socketOf(lab), `pg_wal/${name}`)).toMatchObject({ code: 0, stderr: "" });
      // A clone has its own directory, and nothing of it is taken.
      const clone = join(lab.folder, "clone");
      await mkdir(join(clone, "pg_wal"), { recursive: true });
      await cp(join(server.dataDir, "pg_wal", name), join(clone, "pg_wal", name));
      const refused = await offer(clone, socketOf(lab), `pg_wal/${name}`);
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(clone) as unknown });
      await expect.poll(() => archiving.telling()?.archiver?.refused?.reason, patient).toBe("WAL_FOREIGN");
    }
    // No agent: a name that nobody takes, and still no more than 1.
    expect((await offer(server.dataDir, socketOf(lab), "pg_wal/000000010000000000000001")).code).toBe(1);
    const ended = await archiveBy(lab, WalMode.PUSH);
    await ended[Symbol.asyncDispose]();
    await withdraw(lab);
    // With an empty one the server would keep its WAL until the disk is full.
    expect(await show(server, "archive_command")).toBe("true");
    expect(await show(server, "archive_timeout")).toBe("0");
    // What somebody else has set is given back.
    await server.sql("postgres", "alter system set archive_timeout = '5min'");
    await server.sql("postgres", "select pg_reload_conf()");
    const again = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(again);
    await expect.poll(() => show(server, "archive_timeout"), patient).toBe("1min");
    await again[Symbol.asyncDispose]();
    // What was set here is raised once more is wanted.
    Object.assign(lab.archive.settings?.maxAge ?? {}, { seconds: 240n });
    {
      await using _later = await archiveBy(lab, WalMode.PUSH);
      await expect.poll(() => show(server, "archive_timeout"), patient).toBe("4min");
    }
    await withdraw(lab);
    await expect.poll(() => show(server, "archive_timeout"), patient).toBe("5min");
  });

  // What is done with what is offered does not depend on the server.
  const once = major === 18 ? [major] : [];
  test.each(once)(
    "keeps what cannot be stored until the repository is back, whichever agent stores it then, and other bytes of a name are never taken",
    async () => {
      await using server = await openPostgresServer({ major, settings });
      await using lab = await openArchiveLab(server);
      const former = await archiveBy(lab, WalMode.PUSH);
      await whenHanded(former);
      await whenStored(former, await writeSegments(server, 1));
      const path = join(lab.folder, "repository");
      await rename(path, `${path}.away`);
      const missed = await writeSegments(server, 2);
      await expect.poll(() => former.telling()?.trouble?.reason, patient).toBe("REPOSITORY_UNREACHABLE");
      // Another agent is to have it: what waits is given away by neither.
      await former[Symbol.asyncDispose]();
      const status = await readdir(join(server.dataDir, "pg_wal", "archive_status"));
      expect(status).toContain(`${segmentName(1, missed - size, size)}.ready`);
      expect(status).toContain(`${segmentName(1, missed - 2n * size, size)}.ready`);
      await rename(`${path}.away`, path);
      const elsewhere = join(lab.folder, "elsewhere");
      await mkdir(elsewhere, { mode: 0o711 });
      lab.archive.nothingArchived = false;
      await using archiving = await archiveBy(lab, WalMode.PUSH, elsewhere);
      const report = await whenStored(archiving, missed);
      expect(report.trouble).toBeUndefined();
      expect(extentsOf(report)).toHaveLength(1);
      // Somebody else was faster with the next name.
      const name = segmentName(1, missed, size);
      const other = Buffer.alloc(Number(size), "other bytes");
      await storeWal(lab.storage, {
        place: lab.archive,
        name,
        plainBytes: other.length,
        compressed: () => compressWal(readableOf(other), 1),
        sha256: async () => createHash("sha256").update(other).digest("hex"),
        recipients: [],
        known: () => undefined,
        signal: AbortSignal.timeout(30_000),
      });
      await writeSegments(server, 2);
      await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
      await expect.poll(() => statOf(server, "last_failed_wal"), patient).toBe(name);
      expect((await lab.fetch(name))?.equals(other)).toBe(true);
      // It is the oldest that waits: nothing behind it counts as archived.
      expect(parseLsn(archiving.telling()?.storedLsn ?? "")).toBe(missed);
    },
  );
});

test("a stream is followed by archive_command and by a stream again, and it is one history", async () => {
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  await server.sql("postgres", "alter system set archive_command = 'true'");
  await server.sql("postgres", "select pg_reload_conf()");
  const slots = () => server.sql("postgres", "select count(*) from pg_replication_slots where active");
  let from = 0n;
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    await expect.poll(slots, patient).toBe("1");
    from = extentsOf(await whenStored(archiving, await writeSegments(server, 2)))[0]?.startLsn ?? 0n;
  }
  // Full, thrown away by the server's own command, and held by the slot alone.
  await writeSegments(server, 2);
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(archiving);
    await expect.poll(() => server.sql("postgres", "select count(*) from pg_replication_slots"), patient).toBe("0");
    const report = await whenStored(archiving, await writeSegments(server, 2));
    expect(extentsOf(report).map(({ startLsn }) => startLsn)).toEqual([from]);
  }
  // Nobody takes these: they wait in pg_wal.
  await writeSegments(server, 2);
  await using archiving = await archiveBy(lab, WalMode.STREAM);
  await expect.poll(slots, patient).toBe("1");
  const end = await writeSegments(server, 1);
  const report = await whenStored(archiving, end);
  const [run, ...others] = extentsOf(report);
  expect(others).toEqual([]);
  expect(run?.startLsn).toBe(from);
  await expectSame(lab, server, { timeline: 1, startLsn: from, endLsn: end }, size);
  await expect.poll(() => show(server, "archive_command"), patient).toBe("true");
});

test("what is less than a segment is handed over after the wanted time, and that the server cannot hand it over is told", async () => {
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await whenHanded(archiving);
  expect(await show(server, "archive_timeout")).toBe("1s");
  await server.sql("postgres", "create table little as select 1 as one");
  const lsn = parseLsn(await server.sql("postgres", "select pg_current_wal_lsn()"));
  await whenStored(archiving, lsn);
  // What an idle server notes by itself is no reason to end a segment, and it is not behind by it.
  const present = () => server.sql("postgres", "select pg_walfile_name(pg_current_wal_insert_lsn())");
  const isAtRest = async () => {
    await server.sql("postgres", "select pg_log_standby_snapshot()");
    const before = await present();
    const looks = new Set<string>();
    await expect.poll(async () => looks.add(await server.sql("postgres", lastLook)).size, patient).toBe(4);
    return (await present()) === before;
  };
  await expect.poll(isAtRest, patient).toBe(true);
  const lag = () => parseLsn(archiving.telling()?.serverLsn ?? "") - parseLsn(archiving.telling()?.storedLsn ?? "");
  await expect.poll(lag, patient).toBe(0n);
  // A server that has just started may look at its own archive_timeout only much later.
  await server.sql("postgres", "insert into little values (2)");
  await server.stop();
  await server.start();
  await server.sql("postgres", "insert into little values (3)");
  await whenStored(archiving, parseLsn(await server.sql("postgres", "select pg_current_wal_lsn()")));
  // The server's user may not come to the socket any more, and so the agent hears of nothing.
  const folder = dirname(socketOf(lab));
  await chmod(folder, 0o700);
  await writeSegments(server, 2);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("ARCHIVE_COMMAND_FAILING");
  await chmod(folder, 0o750);
  const report = await whenStored(archiving, await writeSegments(server, 1));
  expect(report.trouble).toBeUndefined();
});

test("after a promotion its history, what was written of the segment before, and the new timeline are archived", async () => {
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await whenHanded(archiving);
  await whenStored(archiving, await writeSegments(server, 2));
  await server.sql("postgres", "insert into load values (-1, 'last')");
  await server.stop("immediate");
  const signal = join(server.dataDir, "standby.signal");
  await writeFile(signal, "", { mode: 0o600 });
  await chown(signal, server.owner.uid, server.owner.gid);
  await server.start();
  await server.sql("postgres", "select pg_promote()");
  const end = await writeSegments(server, 2);
  const report = await whenStored(archiving, end);
  expect(report).toMatchObject({ timeline: 2, histories: [{ timeline: 2 }] });
  expect((await lab.fetch("00000002.history"))?.toString()).toBe(report.histories[0]?.content);
  await expect.poll(() => keys(lab, ".partial"), patient).toHaveLength(1);
  const second = extentsOf(report).filter(({ timeline }) => timeline === 2);
  expect(second).toHaveLength(1);
  await expectSame(lab, server, second[0] ?? { timeline: 2, startLsn: 0n, endLsn: 0n }, size);
});

test("segments of 1 MB are archived, encrypted, and known again by an agent that has lost its index", async () => {
  const { recipient } = await makeAgeKey();
  const small = 1n << 20n;
  const fill = async (dataDir: string) => {
    await initServer(15, dataDir);
    const { code, stderr } = await runProgram(
      "sh",
      [
        "-c",
        'exec setpriv --reuid="$(stat -c %u "$1")" --regid="$(stat -c %g "$1")" --clear-groups "$2" --wal-segsize=1 -D "$1"',
        "sh",
        dataDir,
        "/usr/lib/postgresql/15/bin/pg_resetwal",
      ],
      { env: { PATH: process.env["PATH"] } },
    );
    if (code !== 0) throw new Error(stderr);
  };
  const password = "pw-of-a-server";
  await using server = await openPostgresServer({ major: 15, settings, copy: { password, fill } });
  await server.sql("postgres", `alter role ${server.superuser} password '${password}'`);
  await using lab = await openArchiveLab(server, { recipients: [recipient] });
  const history = "00000002.history";
  let end: bigint;
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(archiving);
    end = await writeSegments(server, 6);
    const report = await whenStored(archiving, end);
    expect(report).toMatchObject({ segmentBytes: small });
    expect(extentsOf(report)).toHaveLength(1);
    await writeFile(join(server.dataDir, "pg_wal", history), "1\t0/2000000\tno recovery target specified\n");
    await chown(join(server.dataDir, "pg_wal", history), server.owner.uid, server.owner.gid);
    expect((await offer(server.dataDir, socketOf(lab), `pg_wal/${history}`)).code).toBe(0);
  }
  const stored = await keys(lab, "/00000001/");
  await rm(join(lab.folder, "state"), { recursive: true });
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await whenHanded(archiving);
  const name = segmentName(1, end - small, small);
  // archive_command is set from before: whether somebody listens already it does not say.
  const offered = async (path: string) => (await offer(server.dataDir, socketOf(lab), path)).stderr;
  await expect.poll(() => offered(`pg_wal/${history}`), patient).toBe("");
  expect(await offer(server.dataDir, socketOf(lab), `pg_wal/${name}`)).toMatchObject({ code: 0, stderr: "" });
  const written = await readFile(join(server.dataDir, "pg_wal", history), "utf8");
  await writeFile(join(server.dataDir, "pg_wal", history), `${written}\n# other bytes\n`);
  expect((await offer(server.dataDir, socketOf(lab), `pg_wal/${history}`)).code).toBe(1);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
  expect((await keys(lab, "/00000001/")).toSorted()).toEqual(expect.arrayContaining(stored.toSorted()));
});

test("a server that archives by somebody else's command keeps it, and one of another identity is not archived", async () => {
  await using server = await openPostgresServer({
    major: 15,
    settings: { ...settings, archive_command: "cp %p /nowhere/%f" },
  });
  await using lab = await openArchiveLab(server);
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("ARCHIVE_COMMAND_TAKEN");
    expect(archiving.telling()?.trouble?.hint).toContain("ALTER SYSTEM SET archive_command");
    expect(await show(server, "archive_command")).toBe("cp %p /nowhere/%f");
  }
  {
    // Whose role lacks rights is told which, and has changed nothing.
    await server.sql("postgres", `create role keeper login password '${server.password}'`);
    const signal = AbortSignal.timeout(60_000);
    const address = { case: "host", value: "127.0.0.1" } as const;
    const endpoint = create(EndpointSchema, { address, port: server.port, user: "keeper" });
    const keeper = await resolveEndpoint(endpoint, server.password, { home: "/nonexistent" });
    await using connection = await openConnection(keeper, { database: "postgres", signal });
    const command = "x push '/x/push/cls_1/s' %p";
    const state = { mode: "on", command: "true", library: "", timeoutSeconds: 0 } as ArchiverState;
    const apply = () => applyCommand(connection, state, { command, socket: join(lab.folder, "s"), maxAgeSeconds: 60 });
    await expect(apply()).rejects.toMatchObject({
      reason: "PRIVILEGE_MISSING",
      hint: 'as a superuser: GRANT pg_read_all_settings TO "keeper"; GRANT ALTER SYSTEM ON PARAMETER archive_command, archive_timeout TO "keeper"; GRANT EXECUTE ON FUNCTION pg_reload_conf() TO "keeper"; -- in the database postgres',
    });
    await server.sql("postgres", "grant alter system on parameter archive_command, archive_timeout to keeper");
    await server.sql("postgres", "grant pg_read_all_settings to keeper");
    await expect(apply()).rejects.toThrow('"keeper" may not change how the server archives: it may not reload it');
    const altered = await readFile(join(server.dataDir, "postgresql.auto.conf"), "utf8");
    expect(altered).not.toContain("archive_");
    await server.sql("postgres", "grant execute on function pg_reload_conf() to keeper");
    await apply();
    expect(await show(server, "archive_command")).toBe(command);
    // Whoever waits for the agent's word is told with it, by which a missing right is known from trouble of before.
    await server.sql("postgres", "revoke pg_read_all_settings from keeper");
    await server.sql("postgres", "alter system set archive_command = 'true'");
    await server.sql("postgres", "select pg_reload_conf()");
    Object.assign(lab.archive.connection ?? {}, { endpoint });
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    const blind = { reason: "PRIVILEGE_MISSING", hint: 'as a superuser: GRANT pg_read_all_settings TO "keeper";' };
    await expect.poll(() => archiving.telling()?.archiver?.mode, patient).toBe("on");
    await expect.poll(() => archiving.telling()?.trouble, patient).toMatchObject(blind);
    expect(await show(server, "archive_command")).toBe("true");
  }
  await server.sql("postgres", "grant pg_read_all_settings to keeper");
  lab.archive.systemIdentifier = "7312345678901234567";
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_FOREIGN");
});

test("a file that the agent may not read is sent to it, and one that is too large is not", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-push-"));
  await using _removal = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
  const file = "000000010000000000000001";
  const bytes = randomBytes(1 << 20);
  await mkdir(join(folder, "data ü/pg_wal"), { recursive: true });
  await writeFile(join(folder, "data ü/pg_wal", file), bytes);
  const taken: Offer[] = [];
  const signal = AbortSignal.timeout(60_000);
  let mostBytes = bytes.length;
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  await using _socket = await openPushSocket({
    folder: join(folder, "push/it"),
    owner: { uid, gid },
    spool: join(folder, "spool"),
    mostBytes: () => mostBytes,
    async take(one) {
      taken.push(one);
      if (one.path === undefined) throw new Failure("WAL_FILE_UNREADABLE", "it may not be read");
      expect((await readFile(one.path)).equals(bytes)).toBe(true);
    },
    signal,
  });
  const push = () => offer(join(folder, "data ü"), pushSocketPath(join(folder, "push/it")), `pg_wal/${file}`);
  expect(await push()).toMatchObject({ code: 0, stderr: "" });
  expect(taken.map(({ name, directory }) => [name, directory])).toEqual([
    [file, join(folder, "data ü")],
    [file, join(folder, "data ü")],
  ]);
  expect(await readdir(join(folder, "spool"))).toEqual([]);
  mostBytes = 1000;
  expect((await push()).code).toBe(1);
  expect(await readdir(join(folder, "spool"))).toEqual([]);
});
