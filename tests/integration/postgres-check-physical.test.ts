import { appendFile, chown, copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type CheckItem, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkCluster } from "../../agent/src/postgres/check/check.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const signal = AbortSignal.timeout(300_000);
const rolePassword = "pass of watcher";
let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "coppice-check-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

interface Asked {
  readonly user?: string;
  readonly password?: string;
  readonly fixStatements?: readonly string[];
  readonly log?: string[];
}

async function check(server: PostgresServer, asked: Asked = {}) {
  const { user = server.superuser, password = server.password, fixStatements = [], log = [] } = asked;
  const connection = create(ConnectionSchema, {
    endpoint: { address: { case: "host", value: "127.0.0.1" }, port: server.port, user },
  });
  return await checkCluster({
    connection,
    password,
    files: { home },
    fixStatements,
    log: (line) => log.push(line),
    signal,
  });
}

/** What is wrong, save what depends on the disk of whoever runs the test. */
const troubles = ({ items }: { items: CheckItem[] }) =>
  items.filter(({ status, name }) => status !== CheckStatus.OK && name !== "wal-space").map(({ name }) => name);

const only = ({ items }: { items: CheckItem[] }, name: string): CheckItem => {
  const [item, ...others] = items.filter((each) => each.name === name);
  if (!item || others.length > 0) throw new Error(`${others.length + (item ? 1 : 0)} items are called ${name}`);
  return item;
};

/** As a person would, one after the other. */
async function runAll(server: PostgresServer, { statements, needsRestart }: CheckItem): Promise<void> {
  for (const statement of statements) await server.sql("postgres", statement);
  if (!needsRestart) return;
  await server.stop();
  await server.start();
}

describe.each([15, 18])("PostgreSQL %i", (major) => {
  const summaries = major >= 17 ? ["summaries"] : [];
  const checksums = major >= 18 ? [] : ["checksums"];

  test("what needs no restart is run when it was confirmed, word for word, and nothing else is", async () => {
    await using server = await openPostgresServer({ major });
    const first = await check(server);
    expect(troubles(first)).toEqual([...checksums, ...summaries, "slot-limit"]);
    expect(only(first, "replication")).toMatchObject({ status: CheckStatus.OK, fix: "", statements: [] });
    expect(only(first, "wal-space").message).toMatch(/^pg_wal has .* free/);
    const { statements } = only(first, "slot-limit");
    const log: string[] = [];
    const unasked = ["ALTER SYSTEM SET work_mem = '9MB';", "CREATE TABLE never ();"];
    const half = await check(server, { fixStatements: [...unasked, statements.at(-1) ?? ""], log });
    expect(half.applied).toEqual([]);
    expect(half.mended).toEqual([]);
    expect(log.map((line) => line.replace(/^.*: /, ""))).toEqual([...unasked, "SELECT pg_reload_conf();"]);
    expect(await server.sql("postgres", "show work_mem")).toBe("4MB");
    log.length = 0;
    const fixed = await check(server, { fixStatements: statements, log });
    expect(fixed.applied).toMatchObject(statements.map((statement) => ({ statement, problem: "" })));
    expect(fixed.mended.map(({ name }) => name)).toEqual(["slot-limit"]);
    expect(troubles(fixed)).toEqual([...checksums, ...summaries]);
    expect(log).toEqual(statements.map((statement) => `ran: ${statement}`));
    expect(troubles(await check(server))).toEqual([...checksums, ...summaries]);
    for (const name of summaries) {
      const { statements: asked } = only(fixed, name);
      expect(troubles(await check(server, { fixStatements: asked }))).toEqual([]);
      expect(await server.sql("postgres", "show summarize_wal")).toBe("on");
      expect(only(await check(server), "incrementals").message).toContain("rows that were deleted come back");
    }
  });

  test.each(checksums)("%s are switched on by the command that the check gives", async (name) => {
    await using server = await openPostgresServer({ major });
    const command = /`(.+)`/.exec(only(await check(server), name).fix)?.[1] ?? "";
    const { owner, binDir } = server;
    const asOwner = process.getuid?.() === 0 ? [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"] : [];
    await server.stop();
    const ended = await runProgram("setpriv", [...asOwner, "sh", "-c", command], {
      env: { PATH: `${binDir}:/usr/bin:/bin` },
    });
    expect(ended).toMatchObject({ code: 0 });
    await server.start();
    expect(troubles(await check(server))).toEqual(["slot-limit"]);
  });
});

test("each limit that forbids physical backups is mended by its own statements and a restart", async () => {
  const settings = { wal_level: "minimal", max_wal_senders: "0", max_replication_slots: "0" };
  await using server = await openPostgresServer({ major: 15, settings });
  const first = await check(server);
  expect(troubles(first)).toEqual(["wal-level", "senders", "slots", "checksums", "slot-limit"]);
  expect(first.items.every(({ status }) => status !== CheckStatus.FAILED)).toBe(true);
  for (const [name, left] of [
    ["wal-level", ["senders", "slots"]],
    ["slots", ["wal-level", "senders"]],
    ["senders", ["slots"]],
  ] as const) {
    // Each from the same beginning: a statement must not count on another one's.
    await runAll(server, only(first, name));
    const now = await check(server);
    const others = now.items.filter(({ needsRestart }) => needsRestart);
    expect(others.map((item) => item.name)).toEqual(left);
    expect(now.items.filter((item) => item.name === name)).toEqual([]);
    await server.sql("postgres", "alter system reset all");
    await server.stop();
    await server.start();
  }
  const { statements } = only(first, "slots");
  await server.sql("postgres", statements.join(" "));
  await server.sql("postgres", "select pg_reload_conf()");
  await expect.poll(async () => only(await check(server), "slots").statements, { timeout: 30_000 }).toEqual([]);
  expect(only(await check(server), "slots").fix).toContain("restart the server");
});

test("slots that are given up when nobody uses them for a time are found, and kept by what is said", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { idle_replication_slot_timeout: "1h" } });
  const first = await check(server);
  expect(troubles(first)).toContain("slot-timeout");
  const { statements } = only(first, "slot-timeout");
  expect(troubles(await check(server, { fixStatements: statements }))).not.toContain("slot-timeout");
});

test("a role without REPLICATION, pg_hba.conf and a wrong password are told apart, and each is mended by what is said", async () => {
  await using server = await openPostgresServer({ major: 15, hba: ["host all all 127.0.0.1/32 scram-sha-256"] });
  await server.sql(
    "postgres",
    `create role watcher login password '${rolePassword}';
     grant pg_read_all_data, pg_read_all_settings, pg_read_all_stats to watcher; grant select on pg_authid to watcher`,
  );
  const asWatcher = { user: "watcher", password: rolePassword };
  const usual = ["checksums", "slot-limit"];
  const first = await check(server, asWatcher);
  expect(troubles(first)).toEqual(["replication", "replication-role", ...usual]);
  expect(only(first, "replication")).toMatchObject({
    message: expect.stringContaining("pg_hba.conf has no line") as unknown,
    statements: [],
  });

  // It may not help itself: what the server refuses is said, and stays what it was.
  const { statements } = only(first, "replication-role");
  const log: string[] = [];
  const refused = await check(server, { ...asWatcher, fixStatements: statements, log });
  expect(refused.applied).toMatchObject([{ statement: statements[0], problem: expect.stringMatching(/./) as unknown }]);
  expect(log).toEqual([expect.stringContaining(`refused: ${statements[0]}`)]);
  expect(refused.mended).toEqual([]);
  expect(troubles(refused)).toEqual(["replication", "replication-role", ...usual]);
  await runAll(server, only(first, "replication-role"));
  expect(troubles(await check(server, asWatcher))).toEqual(["replication", ...usual]);

  const line = /`(host.*?)`/.exec(only(first, "replication").fix)?.[1] ?? "";
  await appendFile(join(server.dataDir, "pg_hba.conf"), `${line}\n`);
  await server.sql("postgres", "select pg_reload_conf()");
  await expect.poll(async () => troubles(await check(server, asWatcher)), { timeout: 30_000 }).toEqual(usual);
  await server.sql("postgres", "alter role watcher noreplication");
  expect(troubles(await check(server, asWatcher))).toEqual(["replication-role", ...usual]);
  await server.sql("postgres", "alter role watcher replication");

  // Where ordinary connections ask for no password, only the handshake finds out that it is wrong.
  const lines = ["host all watcher 127.0.0.1/32 trust", line];
  await using trusting = await openPostgresServer({ major: 15, hba: lines });
  await trusting.sql("postgres", `create role watcher login replication superuser password '${rolePassword}'`);
  const wrong = await check(trusting, { ...asWatcher, password: "not that" });
  expect(only(wrong, "replication")).toMatchObject({
    message: expect.stringContaining("refused the password") as unknown,
    statements: [],
  });
  expect(troubles(await check(trusting, asWatcher))).toEqual(usual);
});

test("configuration that lies elsewhere and cannot be read is found beforehand, and mended by what is said", async () => {
  await using server = await openPostgresServer({ major: 15 });
  const outside = join(server.socketDir, "pg_ident.conf");
  await copyFile(join(server.dataDir, "pg_ident.conf"), outside);
  await chown(outside, server.owner.uid, server.owner.gid);
  await appendFile(join(server.dataDir, "postgresql.conf"), `ident_file = '${outside}'\n`);
  await server.stop();
  await server.start();
  await server.sql(
    "postgres",
    `create role watcher login replication password '${rolePassword}';
     grant pg_read_all_data, pg_read_all_settings to watcher; grant select on pg_authid to watcher`,
  );
  const asWatcher = { user: "watcher", password: rolePassword };
  const first = await check(server, asWatcher);
  const item = only(first, "configuration");
  expect(item).toMatchObject({
    message: expect.stringContaining(`"watcher" may not read ${outside}: physical backups leave`) as unknown,
    statements: [
      'GRANT pg_read_server_files TO "watcher";',
      'GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO "watcher";',
    ],
  });
  await runAll(server, item);
  expect(troubles(await check(server, asWatcher))).toEqual(troubles(first).filter((name) => name !== "configuration"));
  expect(troubles(await check(server))).not.toContain("configuration");
});

test("another tool that archives is named, its command with what is in it is not, and it is never switched off by --fix", async () => {
  const secret = "topsecret";
  const settings = { archive_mode: "on", archive_command: `KEY=${secret} wal-g wal-push %p || true` };
  await using server = await openPostgresServer({ major: 17, settings });
  const found = await check(server);
  const item = only(found, "archiving");
  expect(item).toMatchObject({ status: CheckStatus.WARNING, message: expect.stringContaining("WAL-G") as unknown });
  expect(JSON.stringify(found.items)).not.toContain(secret);
  expect((await check(server, { fixStatements: item.statements })).applied).toEqual([]);
  expect(await server.sql("postgres", "show archive_mode")).toBe("on");
  await runAll(server, item);
  expect(troubles(await check(server))).not.toContain("archiving");
});
