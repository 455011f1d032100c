// Who may write WAL: two real agents, a control plane, one repository; and an agent that nobody tells anything.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { clone, create } from "@bufbuild/protobuf";
import { WalArchiveSchema, WalGrantSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openStandby } from "../support/physical/standby.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openTestCli } from "../support/real/cli.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import { expectSame, receives, watchArchive, writeSegments } from "../support/wal/running-archive.ts";
import { type AgentProcess, openTwoAgents, type TwoAgents } from "../support/wal/two-agents.ts";

const patient = { timeout: 60_000, interval: 100 };
let lab: ControlPlaneLab;
let two: TwoAgents;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs: 1000 });
  two = await openTwoAgents(lab);
});
afterAll(async () => {
  await two[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
});

/** Every file of a repository, as it can be told apart from another one of its name. */
async function portray(folder: string): Promise<Record<string, string>> {
  const portrait: Record<string, string> = {};
  for (const file of await listFiles(folder)) {
    const { ino, size, mtimeMs } = await stat(join(folder, file));
    portrait[file] = `${ino} ${size} ${mtimeMs}`;
  }
  return portrait;
}

const streams = (server: PostgresServer) =>
  server.sql(
    "postgres",
    "select count(*) from pg_stat_replication where application_name <> 'walreceiver' and state <> 'startup'",
  );

test("WAL moves to another agent when its owner has stopped, without a hole; an owner that is away is waited for until it is declared dead, and writes nothing when it comes back", async () => {
  await using server = await openPostgresServer({ major: 17, settings: { wal_keep_size: "1GB" } });
  const [first, second] = two.agents;
  const place = await two.protect("moves", server);
  const before = await place.stored(first, 1n);
  await place.stored(first, await writeSegments(server, 1));

  await using cli = await openTestCli(lab);
  const told = await cli.must(["cluster", "update", "moves", "--host", second.host]);
  expect(told).toContain("✓ cluster moves is changed: host; WAL follows once the agent of one has stopped\n");
  const moved = await place.stored(second, await writeSegments(server, 2));
  expect(moved.ownership).toMatchObject({ formerHostName: first.host, formerTimeline: 1, formerDead: false });
  const stopped = parseLsn(moved.ownership?.formerLsn ?? "");
  expect(stopped).toBeGreaterThanOrEqual(parseLsn(before.storedLsn));
  const { records } = await lab.client(AuditService).listAuditRecords({});
  expect(records.map(({ action }) => action)).toContain("ownership of WAL moves");
  expect(moved.extents).toHaveLength(1);

  // Its owner is gone: the other one waits, and nothing is stored.
  await second.kill();
  await place.moveTo(first);
  await writeSegments(server, 2);
  await expect.poll(() => place.findings(), patient).toContain("wal-owner-awaited");
  const waiting = await place.archive();
  expect(waiting).toMatchObject({ hostName: second.host, ownership: { nextHostName: first.host } });
  const status = await cli.must(["wal", "status", "moves"]);
  expect(status).toMatch(/^owner: +moving from two to one, waiting for .+ for two to say that it has stopped$/m);
  expect(status).toMatch(/^if dead: +coppice wal setup moves --owner-dead two$/m);
  await expect.poll(() => streams(server), patient).toBe("0");
  const quiet = await portray(place.repository);
  const declare = (agent: AgentProcess, ...more: string[]) =>
    cli.run(["wal", "setup", "moves", "--owner-dead", agent.host, ...more]);
  const refused = await declare(first, "--yes");
  expect(refused.stderr).toContain("the agent of one does not own WAL of moves");
  expect((await declare(second)).stderr).toContain("this was not confirmed, nothing was changed");
  expect(await portray(place.repository)).toEqual(quiet);

  const declared = await declare(second, "--yes");
  expect(declared).toMatchObject({ code: 0, stderr: "" });
  expect(declared.stdout).toContain("✓ WAL of moves is archived by the agent of one; that of two counts as dead\n");
  const again = await place.stored(first, await writeSegments(server, 1));
  expect(again.ownership).toMatchObject({
    formerHostName: second.host,
    formerDead: true,
    deadHostNames: [second.host],
  });
  expect(again.extents).toHaveLength(1);
  expect(await cli.must(["wal", "status", "moves"])).toMatch(/^owner: +one, held for .+ after two, declared dead$/m);
  expect((await declare(second, "--yes")).code).toBe(4);

  // It comes back as it was, and is told.
  second.start();
  await expect.poll(async () => (await place.archive()).ownership?.deadHostNames, patient).toEqual([]);
  expect(second.said()).not.toContain("WAL is received");
  const end = await place.stored(first, await writeSegments(server, 1));
  const [extent, ...others] = end.extents;
  expect(others).toEqual([]);
  expect(parseLsn(extent?.startLsn ?? "")).toBeLessThanOrEqual(parseLsn(before.storedLsn));
  // Every record of it, over the places where it changed hands.
  expect(await cli.must(["wal", "verify", "moves"])).toContain("✓ WAL of moves in moves verified");
});

test("a standby that was promoted on another host is archived there on its own timeline, and the primary of before no more", async () => {
  await using primary = await openPostgresServer({ major: 15, settings: { wal_keep_size: "1GB" } });
  await using standby = await openStandby(primary, { wal_keep_size: "1GB" });
  const [first, second] = two.agents;
  const place = await two.protect("promoted", primary);
  await place.stored(first, 1n);
  const written = await writeSegments(primary, 1);
  await place.stored(first, written);
  const replayed = () => standby.sql("postgres", "select pg_last_wal_replay_lsn()").then(parseLsn);
  await expect.poll(replayed, patient).toBeGreaterThanOrEqual(written - (16n << 20n));
  await standby.sql("postgres", "select pg_promote()");
  await place.moveTo(second, standby);
  const { extents } = await place.stored(second, await writeSegments(standby, 1));
  expect(extents.map(({ timeline }) => timeline)).toEqual([1, 2]);
  // The old one is alive and knows nothing of it.
  await writeSegments(primary, 2);
  await expect.poll(() => streams(primary), patient).toBe("0");
  const [old] = (await place.archive()).extents;
  expect(old).toEqual(extents[0]);
  // Nor is it taken for the one that was promoted, by whoever is told that the cluster is there.
  await place.moveTo(first, primary);
  const trouble = async () => (await place.archive()).trouble?.reason;
  await expect.poll(trouble, patient).toBe("WAL_NOT_GRANTED");
  await place.moveTo(second, standby);
  await place.stored(second, await writeSegments(standby, 1));
  expect((await place.archive()).extents.map(({ timeline }) => timeline)).toEqual([1, 2]);
});

/** The same archive by a grant of that number, as another agent has it. */
function grantedTo(lab: ArchiveLab, number: bigint, firstTimeline = 0): ArchiveLab {
  const archive = clone(WalArchiveSchema, lab.archive);
  archive.grant = create(WalGrantSchema, { number, firstTimeline });
  return { ...lab, archive };
}

test("an agent with an older grant than the repository holds writes nothing, and so does one whose server is on an older timeline", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { wal_keep_size: "1GB" } });
  await using archived = await openArchiveLab(server, { maxAgeSeconds: 1 });
  const repository = join(archived.folder, "repository");
  {
    await using old = watchArchive(grantedTo(archived, 5n), "old");
    await receives(server);
    await old.stored(await writeSegments(server, 1));
  }
  {
    await using young = watchArchive(grantedTo(archived, 9n), "young");
    await receives(server);
    await young.stored(await writeSegments(server, 1));
  }
  const before = await portray(repository);
  for (const [lab, state] of [
    [grantedTo(archived, 5n), "old"],
    [grantedTo(archived, 9n, 2), "young"],
  ] as const) {
    await using refused = watchArchive(lab, state);
    await refused.inTrouble("WAL_NOT_GRANTED");
    await writeSegments(server, 1);
    expect(await streams(server)).toBe("0");
    expect(await portray(repository)).toEqual(before);
  }
  // Who gets it back goes on behind what the other one has stored meanwhile.
  await using back = watchArchive(grantedTo(archived, 12n), "old");
  await receives(server);
  await back.stored(await writeSegments(server, 1));
  const [extent, ...others] = back.extents();
  expect(others).toEqual([]);
  if (extent) await expectSame(archived, server, extent);
});

test("WAL that is handed over moves as well: archive_command leads to the next owner, the one before writes no more, and nothing is missing", async () => {
  const settings = { archive_mode: "on", wal_keep_size: "1GB" };
  await using server = await openPostgresServer({ major: 18, settings });
  const [first, second] = two.agents;
  const command = () => server.sql("postgres", "show archive_command");
  const place = await two.protect("pushes", server, WalMode.PUSH);
  await place.stored(first, await writeSegments(server, 1));
  expect(await command()).toContain("/one/push/");
  await place.moveTo(second);
  const moved = await place.stored(second, await writeSegments(server, 2));
  expect(await command()).toContain("/two/push/");
  expect(moved.ownership).toMatchObject({ formerHostName: first.host, formerDead: false });
  expect(moved.extents).toHaveLength(1);
  await expect.poll(() => server.sql("postgres", "select count(*) from pg_replication_slots"), patient).toBe("0");
});
