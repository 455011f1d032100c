// What a server keeps for an archive that has ended, by the agent's desired state on a real server.
import { chmod, mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { clone, create } from "@bufbuild/protobuf";
import { DesiredStateSchema } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { openLog } from "@coppice/proto/kit/log";
import { expect, test } from "vitest";
import { openBudget } from "../../agent/src/budget.ts";
import { openDesired } from "../../agent/src/desired/desired.ts";
import { walGrantKey } from "../../agent/src/repository/layout.ts";
import { runWalArchive } from "../../agent/src/wal/push/run-archive.ts";
import { listExtents } from "../../agent/src/wal/store/list-extents.ts";
import { withdrawArchive } from "../../agent/src/wal/withdraw/withdraw-archive.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveBy, patient, socketOf, writeSegments } from "../support/wal/push-lab.ts";

const log = openLog({ level: "silent", name: "test" });
const clientFiles = { home: "/nonexistent" };

/** An agent's desired state in this process, for a cluster whose slots are looked at. */
async function openAgent({ archive, folder: parent }: ArchiveLab, server: PostgresServer) {
  const { clusterId: id } = archive;
  const folder = join(parent, "agent");
  await mkdir(folder);
  // The server's user has to come to the socket.
  await chmod(parent, 0o711);
  await chmod(folder, 0o711);
  const secrets = [{ id: "sec_password", value: server.password }];
  const budget = openBudget(64 << 20);
  return {
    id,
    folder,
    open: () =>
      openDesired({
        folder,
        log,
        archive: (started) => runWalArchive({ ...started, clientFiles, budget, log }, folder),
        withdraw: (left, signal) => withdrawArchive({ ...left, clientFiles, budget, dataDirectory: folder }, signal),
      }),
    archived(slot: string, mode = WalMode.STREAM) {
      const value = clone(WalArchiveSchema, archive);
      if (value.settings) Object.assign(value.settings, { slot, mode });
      return { id, secrets, desired: { case: "walArchive" as const, value } };
    },
    slots: () =>
      server.sql(
        "postgres",
        "select coalesce(string_agg(slot_name || ' ' || active, ' ' order by 1), '') from pg_replication_slots",
      ),
  };
}

async function countHoles({ archive, storage }: ArchiveLab): Promise<number> {
  const listed = { place: archive, segmentBytes: 16n << 20n, signal: AbortSignal.timeout(30_000) };
  return (await listExtents(storage, listed)).length - 1;
}

test("no slot is left on a server: not of another name, and not when it was away as its archive was given up", async () => {
  await using server = await openPostgresServer({ major: 18 });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  const { id, folder, open, archived, slots } = await openAgent(lab, server);
  const state = (revision: bigint, slot?: string) =>
    create(DesiredStateSchema, {
      revision,
      last: true,
      entries: slot === undefined ? [] : [archived(slot)],
      ended: slot === undefined ? [{ id, revision }] : [],
    });
  const succeeded = (revision: bigint, slot: string) => {
    const { systemIdentifier } = lab.archive;
    const ended = [{ id, revision, successor: { systemIdentifier, slot } }];
    return create(DesiredStateSchema, { revision, last: true, ended });
  };
  {
    await using desired = await open();
    desired.take(state(1n, "mine"));
    await expect.poll(slots, patient).toBe("mine true");
    desired.take(state(2n, "other"));
    await server.sql("postgres", "create table t as select generate_series(1, 1000); select pg_switch_wal()");
    await expect.poll(slots, patient).toBe("other true");
    await server.stop("fast");
    desired.take(state(3n));
    const told = () => desired.reports().flatMap(({ leftover }) => leftover?.slot ?? []);
    await expect.poll(told, patient).toEqual(["other"]);
  }
  await server.start();
  expect(await slots()).toBe("other false");
  await using again = await open();
  await expect.poll(slots, patient).toBe("");
  expect(again.revision).toBe(3n);
  // What another agent archives by is that one's, and what it does not archive by is nobody's.
  again.take(state(4n, "mine"));
  await expect.poll(slots, patient).toBe("mine true");
  again.take(succeeded(5n, "theirs"));
  await expect.poll(slots, patient).toBe("");
  again.take(state(6n, "theirs"));
  await expect.poll(slots, patient).toBe("theirs true");
  again.take(succeeded(7n, "theirs"));
  await expect.poll(slots, patient).toBe("theirs false");
  expect(again.revision).toBe(7n);
  // Also where nobody can say so but the repository.
  again.take(state(8n, "theirs"));
  await expect.poll(slots, patient).toBe("theirs true");
  const later = walGrantKey(lab.archive, (lab.archive.grant?.number ?? 0n) + 1n);
  await lab.storage.put(later, Readable.from([]), { signal: AbortSignal.timeout(30_000), ifAbsent: true });
  again.take(state(9n));
  const left = () => readFile(join(folder, "withdrawals.json"), "utf8");
  await expect.poll(() => again.revision, patient).toBe(9n);
  await expect.poll(left, patient).toBe("[]\n");
  expect(await slots()).toBe("theirs false");
});

test("a slot of another name goes once archive_command hands over what is stored, and not before", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { archive_mode: "on" } });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  const { folder, open, archived, slots } = await openAgent(lab, server);
  await using desired = await open();
  const take = (revision: bigint, ...entry: Parameters<typeof archived>) =>
    desired.take(create(DesiredStateSchema, { revision, last: true, entries: [archived(...entry)] }));
  take(1n, "mine");
  await expect.poll(slots, patient).toBe("mine true");
  take(2n, "", WalMode.PUSH);
  const left = () => desired.reports().flatMap(({ leftover }) => leftover?.trouble?.reason ?? []);
  await expect.poll(left, patient).toEqual(["WAL_NOT_READY"]);
  expect(await slots()).toBe("mine false");
  await writeSegments(server, 1);
  await expect.poll(slots, patient).toBe("");
  await expect.poll(() => readFile(join(folder, "withdrawals.json"), "utf8"), patient).toBe("[]\n");
});

test("a slot that alone keeps what is not stored is kept, and stores it when WAL is received by it again", async () => {
  const settings = { archive_mode: "on", archive_command: "true" };
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  const { open, archived, slots } = await openAgent(lab, server);
  await using desired = await open();
  const take = (revision: bigint, ...entry: Parameters<typeof archived>) =>
    desired.take(create(DesiredStateSchema, { revision, last: true, entries: [archived(...entry)] }));
  const holes = () => countHoles(lab);
  take(1n, "mine");
  await expect.poll(slots, patient).toBe("mine true");
  await writeSegments(server, 1);
  await expect.poll(holes, patient).toBe(0);
  const repository = join(lab.folder, "repository");
  await rename(repository, `${repository}-away`);
  take(2n, "other");
  await expect.poll(slots, patient).toBe("mine false");
  // The command that was in force takes them.
  await writeSegments(server, 3);
  const done = "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'";
  await expect.poll(() => server.sql("postgres", done), patient).toBe("0");
  take(3n, "other", WalMode.PUSH);
  await expect.poll(() => server.sql("postgres", "show archive_command"), patient).toContain("push");
  await rename(`${repository}-away`, repository);
  await writeSegments(server, 1);
  await expect.poll(holes, patient).toBe(1);
  const left = () => desired.reports().flatMap(({ leftover }) => leftover?.trouble?.message ?? []);
  await expect.poll(left, patient).toEqual([expect.stringContaining("the slot mine alone keeps WAL from ")]);
  expect(await slots()).toBe("mine false");
  take(4n, "mine");
  await expect.poll(holes, patient).toBe(0);
  take(5n, "mine", WalMode.PUSH);
  await expect.poll(slots, patient).toBe("");
  expect(await holes()).toBe(0);
});

test("a slot of another name is kept while another agent that archives the server has not stored what it keeps", async () => {
  await using server = await openPostgresServer({ major: 18 });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  const { id, open, archived, slots } = await openAgent(lab, server);
  await using desired = await open();
  desired.take(create(DesiredStateSchema, { revision: 1n, last: true, entries: [archived("mine")] }));
  await expect.poll(slots, patient).toBe("mine true");
  const { systemIdentifier } = lab.archive;
  const value = { clusterId: id, systemIdentifier, number: 1n };
  const entries = [{ id, desired: { case: "walEnd" as const, value } }];
  desired.take(create(DesiredStateSchema, { revision: 2n, last: true, entries }));
  await expect.poll(slots, patient).toBe("mine false");
  await writeSegments(server, 2);
  const ended = [{ id, revision: 3n, successor: { systemIdentifier, slot: "archive" } }];
  desired.take(create(DesiredStateSchema, { revision: 3n, last: true, ended }));
  const left = () => desired.reports().flatMap(({ leftover }) => leftover?.trouble?.reason ?? []);
  await expect.poll(left, patient).toEqual(["WAL_NOT_READY"]);
  expect(await slots()).toBe("mine false");
  await using _other = await archiveBy(lab, WalMode.STREAM, join(lab.folder, "other"));
  await expect.poll(slots, patient).toBe("archive true");
  expect(await countHoles(lab)).toBe(0);
});

test.each([15, 18])(
  "PostgreSQL %i: archive_command is given back before the restart that was to bring it into force, by a role that may not read files",
  async (major) => {
    await using server = await openPostgresServer({ major });
    await using lab = await openArchiveLab(server);
    const sql = (text: string) => server.sql("postgres", text);
    await sql(`create role coppice login replication password '${server.password}'`);
    await sql("grant alter system on parameter archive_command, archive_timeout to coppice");
    await sql("grant execute on function pg_reload_conf() to coppice");
    await sql("grant pg_read_all_settings to coppice");
    const { connection } = lab.archive;
    if (connection?.endpoint) connection.endpoint.user = "coppice";
    const altered = async () => (await readFile(join(server.dataDir, "postgresql.auto.conf"), "utf8")).split("\n");
    const push = async (reason: string) => {
      await using archiving = await archiveBy(lab, WalMode.PUSH);
      await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe(reason);
    };
    // What another tool is to archive by from the restart on is not taken away.
    await sql("alter system set archive_command = 'tool %p'");
    await sql("select pg_reload_conf()");
    await push("ARCHIVE_COMMAND_TAKEN");
    expect(await altered()).toContain("archive_command = 'tool %p'");
    await sql("alter system reset archive_command");
    await sql("select pg_reload_conf()");
    await push("ARCHIVE_MODE_OFF");
    expect((await altered()).join("\n")).toContain(`push ''${socketOf(lab)}'' %p`);
    await sql("alter system set archive_mode = on");
    const ended = { archive: lab.archive, secret: lab.secret, dataDirectory: lab.folder, next: undefined };
    const own = { isSucceeded: false, clientFiles, budget: openBudget(64 << 20) };
    await withdrawArchive({ ...ended, ...own }, AbortSignal.timeout(30_000));
    expect((await altered()).filter((line) => line.startsWith("archive_")).toSorted()).toEqual([
      "archive_command = 'true'",
      "archive_mode = 'on'",
    ]);
  },
);
