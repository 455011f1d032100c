import { chown, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openStandby } from "../support/physical/standby.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const majors = [15, 18] as const;
const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from orders t";

let installation: Installation;
const stack = new AsyncDisposableStack();
const servers = new Map<number, PostgresServer>();

beforeAll(async () => {
  const open = async (major: number) => {
    const settings = major >= 17 ? { summarize_wal: "on", wal_log_hints: "on" } : {};
    servers.set(major, stack.use(await openPostgresServer({ major, settings })));
  };
  [installation] = await Promise.all([openInstallation(), ...majors.map(open)]);
  stack.use(installation);
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`, "--check"]);
});
afterAll(() => stack.disposeAsync());

function serverOf(major: number): PostgresServer {
  const server = servers.get(major);
  if (!server) throw new Error(`there is no server of ${major}`);
  return server;
}

describe.each(majors)("with a cluster of PostgreSQL %i", { timeout: 120_000 }, (major) => {
  const name = `shop${major}`;
  let id = "";
  let directory = "";
  let port = 0;
  let before = "";

  beforeAll(async () => {
    const server = serverOf(major);
    await server.sql("postgres", "create database orders");
    await server.sql("orders", "create table orders as select i as id, md5(i::text) from generate_series(1, 2000) i");
    before = (await server.sql("orders", rows)).trimEnd();
    const endpoint = `127.0.0.1:${server.port}`;
    await installation.must(["cluster", "add", name, "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
      input: server.password,
    });
    await installation.must(["cluster", "check", name]);
    const parent = join(installation.folder, `restored${major}`);
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
    directory = join(parent, "data");
    port = await freePort();
  });
  afterAll(async () => {
    await asServer(serverOf(major), "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
  });

  test("leaving its WAL to an archive that is not there is refused, and the refusal says what to ask for", async () => {
    const refused = await installation.coppice(["backup", "create", name, "--kind", "full", "--wal", "archive"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(new RegExp(`^ {2}next: .*coppice wal setup ${name}; .*--wal embedded$`, "m"));
  });

  test("one command takes a checked full backup, and it is listed, shown and verified", async () => {
    // Where no WAL is archived it is in the backup without being asked for.
    const said = await installation.must(["backup", "create", name, "--kind", "full"]);
    expect(said).toMatch(
      /^✓ bkp_\w{26}  full, [\d.]+ MB → [\d.]+ [kM]B in [\d.]+ \w+, checked\n {2}WAL from [\dA-F]+\/[\dA-F]+ to /,
    );
    id = said.slice(2, 32);
    expect(await installation.must(["backup", "list", "--cluster", name])).toMatch(
      new RegExp(`^${id} +${name} +full +.* good +main$`, "m"),
    );
    const shown = await installation.must(["backup", "get", id]);
    expect(shown).toMatch(/^kind: +full$/m);
    expect(shown).toMatch(/^WAL: +[\dA-F/]+ to [\dA-F/]+, in the backup$/m);
    expect(await installation.must(["backup", "verify", id, "--content"])).toMatch(
      /every digest matches, and all of it/,
    );
    expect(await installation.must(["cluster", "get", name])).toMatch(new RegExp(`^last good physical: +${id}, `, "m"));
    expect(await installation.must(["backup", "recipe", id])).toContain("tar");
  });

  test("a plan touches nothing, and the restored server has the rows of the backup and none of later", async () => {
    await serverOf(major).sql("orders", "insert into orders values (1000000, 'later')");
    const place = ["--backup", id, "--to", `db7:${directory}`, "--start", "--port", String(port)];
    const plan = await installation.must(["restore", "plan", name, ...place]);
    expect(plan).toMatch(new RegExp(`^✓ ${name} can be restored into db7:${directory}, `));
    await expect(stat(directory)).rejects.toThrow("ENOENT");
    const said = await installation.must(["restore", "create", name, ...place]);
    expect(said).toContain(`✓ ${name} is restored in db7:${directory}: `);
    expect(said).toMatch(/recovery ended at [\dA-F]+\/[\dA-F]+/);
    expect(await ask(serverOf(major), port, "orders", rows)).toBe(before);
    const state = "select pg_is_in_recovery(), current_setting('archive_mode')";
    expect(await ask(serverOf(major), port, "postgres", state)).toBe("f|off");
    expect((await readdir(join(directory, ".."))).filter((one) => one !== "data")).toEqual([]);
  });

  test("a directory in which a server runs is refused, replaced or not", async () => {
    for (const more of [[], ["--replace", "--yes"]]) {
      const place = ["--backup", id, "--to", `db7:${directory}`, ...more];
      const refused = await installation.coppice(["restore", "create", name, ...place]);
      expect(refused.code, refused.stderr).toBe(4);
      expect(refused.stderr).toContain("next:");
    }
    expect(await ask(serverOf(major), port, "orders", rows)).toBe(before);
  });

  test("a time that no WAL leads to is refused with the point that can be reached", async () => {
    const refused = await installation.coppice(["restore", "plan", name, "--to", "db7:/srv/x", "--at", "1 hour ago"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(/next: /);
  });

  test("it is deleted as the last good one only when that is said", async () => {
    const refused = await installation.coppice(["backup", "delete", id, "--yes"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain("--last");
    await installation.must(["backup", "delete", id, "--last", "--yes"]);
    expect(await installation.must(["backup", "list", "--cluster", name])).toMatch(/^no backups/);
  });
});

describe("an incremental of PostgreSQL 18", { timeout: 120_000 }, () => {
  const name = "shop18";
  let full = "";
  let directory = "";

  afterAll(async () => {
    await asServer(serverOf(18), "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
  });

  test("stores what has changed since its parent, and stands below it", async () => {
    const create = ["backup", "create", name, "--wal", "embedded", "--kind"];
    full = (await installation.must([...create, "full"])).slice(2, 32);
    await serverOf(18).sql("orders", "insert into orders select i, 'new' from generate_series(3000, 3100) i");
    const said = await installation.must([...create, "incremental"]);
    expect(said).toMatch(/^✓ bkp_\w{26} {2}incremental, /);
    expect(said).toContain(`what has changed since ${full}`);
    const verified = await installation.must(["backup", "verify", said.slice(2, 32), "--content"]);
    expect(verified).toContain(" verified with the 1 backup that it builds on: ");
    const list = await installation.must(["backup", "list", "--cluster", name]);
    expect(list).toMatch(new RegExp(`^${full} +${name} +full .*\n└${said.slice(2, 32)} +${name} +incr `, "m"));
  });

  test("is restored with its chain, and its parent is deleted only after it", async () => {
    const before = (await serverOf(18).sql("orders", rows)).trimEnd();
    directory = join(installation.folder, "restored18/chain");
    const port = await freePort();
    const place = ["--to", `db7:${directory}`, "--start", "--port", String(port)];
    await installation.must(["restore", "create", name, ...place]);
    expect(await ask(serverOf(18), port, "orders", rows)).toBe(before);
    const refused = await installation.coppice(["backup", "delete", full, "--last", "--yes"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain("incremental");
  });
});

describe("what a check finds in PostgreSQL 15", { timeout: 120_000 }, () => {
  const name = "shop15";
  const statement = "ALTER SYSTEM SET max_slot_wal_keep_size = '4096MB';";
  const limit = () => serverOf(15).sql("postgres", "show max_slot_wal_keep_size");

  test("is shown with its statements and not mended without a confirmation", async () => {
    const shown = await installation.must(["cluster", "check", name]);
    expect(shown).toMatch(/^ {2}! slot-limit +max_slot_wal_keep_size is -1: /m);
    expect(shown).toContain(`    fix: ${statement} SELECT pg_reload_conf();`);
    const refused = await installation.coppice(["cluster", "check", name, "--fix"]);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toContain(`\n  ${statement}\n  SELECT pg_reload_conf();\n`);
    expect(refused.stderr).toContain("this was not confirmed, nothing was changed");
    expect(await limit()).toBe("-1");
  });

  test("is mended when it was confirmed; the answer and the operation's log name each statement", async () => {
    const said = await installation.must(["cluster", "check", name, "--fix", "--yes"]);
    expect(said).toContain(`\n  ran: ${statement}\n  ran: SELECT pg_reload_conf();\n  mended: slot-limit, it was: `);
    expect(said).not.toContain("! slot-limit");
    // What takes a restart, or more than SQL, is only said.
    expect(said).toMatch(/^ {2}! checksums +.*\n {4}fix: stop the server, run `pg_checksums /m);
    expect(await limit()).toBe("4GB");
    const [operation = ""] = (await installation.must(["operation", "list", "-o", "name"])).split("\n");
    expect(await installation.must(["operation", "logs", operation])).toContain(`ran: ${statement}`);
    const again = await installation.must(["cluster", "check", name, "--fix", "--yes"]);
    expect(again).not.toContain("ran: ");
  });
});

test("a standby is protected as a cluster of its own, and its backups say where they are from", async () => {
  const name = "standby15";
  await using standby = await openStandby(serverOf(15));
  const endpoint = `127.0.0.1:${standby.port}`;
  await installation.must(["cluster", "add", name, "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
    input: standby.password,
  });
  expect(await installation.must(["cluster", "check", name])).toContain(
    "it is a standby: it can be dumped and backed up",
  );
  const said = await installation.must(["backup", "create", name, "--kind", "full", "--wal", "embedded"]);
  const id = said.slice(2, 32);
  expect(await installation.must(["backup", "get", id])).toMatch(/^taken of: +a standby$/m);
  const place = ["--backup", id, "--to", `db7:${join(installation.folder, "restored15/of-standby")}`, "--start"];
  expect(await installation.must(["restore", "plan", name, ...place])).toMatch(/^✓ /);
}, 120_000);
