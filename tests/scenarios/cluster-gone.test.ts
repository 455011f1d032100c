// The guide's "The cluster is gone", step by step: restored to the latest, the applications' server from then on, and
// backed up and archived again at once.
import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from items t";
let installation: Installation;
let server: PostgresServer;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  [installation, server] = await Promise.all([openInstallation(), openPostgresServer({ major: 18 })]);
  stack.use(installation);
  stack.use(server);
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`]);
  await server.sql("postgres", "create database orders");
  await server.sql("orders", "create table items as select i as id, md5(i::text) from generate_series(1, 2000) i");
  const endpoint = ["--endpoint", `127.0.0.1:${server.port}`, "--password-stdin"];
  await installation.must(["cluster", "add", "shop", "--host", "db7", ...endpoint], { input: server.password });
  await installation.must(["cluster", "check", "shop"]);
  await installation.must(["wal", "setup", "shop", "--max-age", "2s"]);
}, 120_000);
afterAll(() => stack.disposeAsync());

test(
  "a cluster that is gone comes back elsewhere, and is backed up and archived there",
  { timeout: 180_000 },
  async () => {
    await installation.must(["backup", "create", "shop", "--kind", "full", "--wal", "embedded"]);
    await server.sql("orders", "insert into items select i, 'later' from generate_series(3000, 3500) i");
    const before = (await server.sql("orders", rows)).trimEnd();
    const end = (await server.sql("orders", "select pg_switch_wal()")).trimEnd();
    await waitFor("all of it is stored", async () => {
      const { storedLsn } = await installation.json<{ storedLsn: string }>(["wal", "status", "shop"]);
      return storedLsn !== "" && (await server.sql("orders", `select '${storedLsn}'::pg_lsn >= '${end}'`)) === "t";
    });
    await asServer(server, "pg_ctl", ["-D", server.dataDir, "-m", "immediate", "-w", "stop"]);

    expect(await installation.must(["cluster", "get", "shop"])).toMatch(/^last good physical: bkp_\w+, /m);
    const parent = join(installation.folder, "again");
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
    const directory = join(parent, "data");
    const port = await freePort();
    const place = ["--to", `db7:${directory}`, "--start", "--port", String(port)];
    expect(await installation.must(["restore", "plan", "shop", ...place])).toMatch(/^ {2}from bkp_\w+, taken [^o]/m);
    expect(await installation.must(["restore", "create", "shop", ...place])).toContain("on timeline 2");
    try {
      expect(await ask(server, port, "orders", rows)).toBe(before);
      await installation.must(["cluster", "update", "shop", "--endpoint", `127.0.0.1:${port}`]);
      await installation.must(["cluster", "check", "shop"]);
      await installation.must(["backup", "create", "shop", "--kind", "full"]);
      // Its archive goes on along the new timeline, without a gap, and both histories can be had.
      await waitFor("recovery can reach the new timeline", async () =>
        /^recovery can reach .* on timeline 1\nrecovery can reach .* on timeline 2$/m.test(
          await installation.must(["wal", "status", "shop"]),
        ),
      );
      expect(await installation.must(["wal", "status", "shop"])).not.toMatch(/^gap/m);
      await waitFor("nothing is wrong", async () => (await installation.coppice(["status", "--check"])).code === 0);
    } finally {
      await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
    }
  },
);
