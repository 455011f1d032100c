// A cluster with two full backups, the older of which is deleted: the WAL that only it needed goes, and nothing else.
import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { runRecipe } from "../support/physical/run-recipe.ts";
import { startRecovered } from "../support/physical/recovered-server.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const segmentBytes = 16n << 20n;
const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from orders t";
const stack = new AsyncDisposableStack();
let installation: Installation;
let server: PostgresServer;
let key: AgeKey;
let folder: string;

beforeAll(async () => {
  [installation, server, key] = await Promise.all([
    openInstallation(),
    openPostgresServer({ major: 18 }),
    makeAgeKey(),
  ]);
  stack.use(installation);
  stack.use(server);
  await installation.addAgent("db7");
  await installation.must(["host", "update", "db7", "--label", "may-decrypt=true"]);
  folder = join(installation.folder, "backups");
  await mkdir(folder);
  const identity = join(installation.folder, "recovery.txt");
  await writeFile(identity, key.identityFile, { mode: 0o600 });
  const encrypted = ["--recovery-recipient", key.recipient, "--recovery-identity", identity, "--identity", identity];
  await installation.must(["repo", "add", "main", `db7:${folder}`, ...encrypted]);
  const endpoint = `127.0.0.1:${server.port}`;
  await installation.must(["cluster", "add", "shop", "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
    input: server.password,
  });
  await installation.must(["cluster", "check", "shop"]);
  await installation.must(["wal", "setup", "shop", "--max-age", "2s"]);
});
afterAll(() => stack.disposeAsync());

interface Status {
  readonly storedLsn: string;
  readonly storedTime?: string;
  readonly slot?: { readonly name: string; readonly active?: boolean; readonly restartLsn: string };
  readonly extents: readonly { readonly startLsn: string; readonly endLsn: string }[];
}

const query = async (sql: string) => (await server.sql("orders", sql)).trimEnd();
const status = () => installation.json<Status>(["wal", "status", "shop"]);
const isStored = (lsn: string) =>
  waitFor(`WAL is stored up to ${lsn}`, async () => {
    const { storedLsn } = await status();
    return storedLsn !== "" && (await query(`select '${storedLsn}'::pg_lsn >= '${lsn}'`)) === "t";
  });

/** Begins a segment of its own, so that backups begin in different ones. */
async function write(text: string): Promise<void> {
  await query(`insert into orders select i, '${text}' from generate_series(1, 500) i`);
  await isStored(await query("select pg_switch_wal()"));
}

async function takeFull(): Promise<{ readonly id: string; readonly startLsn: string }> {
  const id = (await installation.must(["backup", "create", "shop", "--kind", "full"])).slice(2, 32);
  const { physical } = await installation.json<{ physical: { startLsn: string } }>(["backup", "get", id]);
  return { id, startLsn: physical.startLsn };
}

/** What there is of WAL: names of segments and parts, of claims, and positions of anchors. */
async function archived() {
  const files = (await listFiles(folder)).filter((path) => path.includes("/wal/"));
  const last = (path: string) => path.slice(path.lastIndexOf("/") + 1);
  return {
    segments: files
      .filter((path) => /\/0{7}1\/[0-9A-F]{16}\/[^/]+$/.test(path) && !path.includes("/digests/"))
      .map(last),
    claims: files.filter((path) => path.includes("/digests/")).map(last),
    anchors: files.filter((path) => path.includes("/anchors/")).map((path) => BigInt(`0x${last(path).slice(0, 16)}`)),
  };
}

test(
  "what only a deleted backup needed is deleted, also when the agent is killed, and all that can be recovered to still can",
  { timeout: 240_000 },
  async () => {
    await server.sql("postgres", "create database orders");
    await query("create table orders (id int, text text)");
    await write("before any backup");
    const older = await takeFull();
    await write("between");
    const newer = await takeFull();
    const atEnd = await query(rows);
    await query("insert into orders values (0, 'after both')");
    const before = await query(rows);
    await query("select pg_sleep(1.1)");
    const moment = await query(
      "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'",
    );
    await query("select pg_sleep(1.1)");
    await write("too late");
    await waitFor("the archive knows that time", async () => {
      const { storedTime } = await status();
      return storedTime !== undefined && (await query(`select '${storedTime}'::timestamptz > '${moment}'`)) === "t";
    });

    // The slot is shown by the name that it was not given.
    const said = await installation.must(["wal", "status", "shop"]);
    expect(said).toMatch(/^slot: +coppice_cls_[0-9a-z]{26}, active, reserved, keeps WAL from [\dA-F/]+ \(.+\)/m);
    expect((await status()).slot?.name).toBe(await query("select slot_name from pg_replication_slots"));

    await installation.must(["backup", "delete", older.id, "--yes"]);
    const nameOf = async (lsn: string) => await query(`select pg_walfile_name('${lsn}'::pg_lsn + 1)`);
    const first = await nameOf(newer.startLsn);
    const full = await archived();
    const doomed = full.segments.filter((name) => name.slice(0, 24) < first);
    expect(doomed.length).toBeGreaterThanOrEqual(3);
    expect(full.claims.length).toBeGreaterThan(0);

    const look = await installation.must(["wal", "cleanup", "shop", "--dry-run"]);
    expect(look).toMatch(/^✓ \d+ objects of WAL of shop in main would be deleted, .*; nothing was done$/m);
    expect(look).toMatch(
      new RegExp(`^ {2}timeline 1, [\\dA-F/]+ to [\\dA-F/]+: ${doomed.length} objects, .*; before ${newer.id}`, "m"),
    );
    const unconfirmed = await installation.coppice(["wal", "cleanup", "shop"]);
    expect(unconfirmed.code).not.toBe(0);
    expect(unconfirmed.stderr).toMatch(/^ {2}stays: recovery can reach .* on timeline 1$/m);
    expect(unconfirmed.stderr).toMatch(/this was not confirmed, nothing was changed/);
    expect((await archived()).segments).toEqual(expect.arrayContaining(full.segments));

    // Whether the agent is killed before it begins, in the middle or at the end is left to chance.
    const started = await installation.must(["wal", "cleanup", "shop", "--yes", "--no-wait", "-o", "name"]);
    await installation.agent("db7").end("SIGKILL");
    installation.startAgent("db7");
    await installation.must(["operation", "watch", started.trim()]);
    const left = await archived();
    expect(left.segments.filter((name) => name.slice(0, 24) < first)).toEqual([]);
    expect(left.segments).toEqual(
      expect.arrayContaining(full.segments.filter((name) => name >= first && !name.includes("."))),
    );
    expect(left.claims.filter((name) => name.slice(0, 24) < first)).toEqual([]);
    const cut = BigInt(`0x${first.slice(16)}`) * segmentBytes;
    expect(left.anchors.filter((lsn) => lsn < cut)).toEqual([]);

    // The agent that began anew has told all that it ever stored.
    await write("after the cleanup");
    const { extents } = await status();
    expect(extents).toHaveLength(1);
    expect(parseLsn(extents[0]?.startLsn ?? "")).toBe(cut);
    expect(await installation.must(["wal", "verify", "shop", "--content"])).toMatch(
      /the checksums of \d+ records match/,
    );
    // There is nothing left but parts of segments that have been filled since.
    const again = await installation.must(["wal", "cleanup", "shop", "--yes"]);
    expect(again).toMatch(
      /^✓ (all WAL of shop in main is needed, nothing was|\d+ objects of WAL of shop in main are) deleted/m,
    );
    expect(again).not.toContain("timeline");

    const parent = join(installation.folder, "restored");
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
    const directory = join(parent, "data");
    const port = await freePort();
    try {
      const to = ["--to", `db7:${directory}`, "--start", "--port", String(port)];
      await installation.must(["restore", "create", "shop", "--at", moment, ...to]);
      expect(await ask(server, port, "orders", rows)).toBe(before);
    } finally {
      await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
    }
    const place = (await listFiles(folder)).find((path) => path.includes(newer.id) && path.endsWith("/RECOVER.txt"));
    await using made = await runRecipe(server, join(folder, place ?? "", ".."), { key });
    await using recovered = await startRecovered(server, made.data);
    expect(await recovered.sql("orders", rows)).toBe(atEnd);
  },
);
