import { chmod, mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { runProgram } from "../support/run-program.ts";
import { listFiles } from "../support/scenarios/files.ts";

const majors = [15, 18] as const;
const isRoot = process.getuid?.() === 0;

let installation: Installation;
const servers = new Map<number, PostgresServer>();

beforeAll(async () => {
  const open = async (major: number) => servers.set(major, await openPostgresServer({ major }));
  [installation] = await Promise.all([openInstallation(), ...majors.map(open)]);
});
afterAll(async () => {
  await installation?.[Symbol.asyncDispose]();
  for (const server of servers.values()) await server[Symbol.asyncDispose]();
});

function serverOf(major: number): PostgresServer {
  const server = servers.get(major);
  if (!server) throw new Error(`there is no server of ${major}`);
  return server;
}

const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from orders t";

test("a host is added by the one line that is pasted on it", async () => {
  const said = await installation.must(["host", "add", "db7"]);
  expect(said).toMatch(/^✓ host db7 may enrol once within 30 min; paste this on it:\n/);
  const line = said.split("\n").find((each) => each.includes("coppice-agent enroll -")) ?? "";
  const onHost = {
    PATH: `${dirname(findPrograms().agent)}:/usr/bin:/bin`,
    HOME: "/nonexistent",
    COPPICE_AGENT_DATA_DIR: join(installation.folder, "agent-db7"),
  };
  const pasted = await runProgram("/bin/sh", ["-c", line], { env: onHost });
  expect(pasted).toMatchObject({ code: 0, stderr: "" });
  const again = await runProgram("/bin/sh", ["-c", line], {
    env: { ...onHost, COPPICE_AGENT_DATA_DIR: "/nonexistent" },
  });
  expect(again.code).not.toBe(0);
  expect(again.stderr).toMatch(/^ {2}next: /m);

  installation.startAgent("db7");
  await waitFor("db7 is connected", async () => (await installation.must(["host", "list"])).includes(" connected "));
});

test("a folder of the host becomes the repository, and is tried at once", async () => {
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  const said = await installation.must(["repo", "add", "main", `db7:${folder}`, "--check"]);
  expect(said).toMatch(/^✓ repository main works from db7, checked in /);
  for (const item of ["reachable", "write", "read", "list", "delete", "space"]) {
    expect(said).toMatch(new RegExp(`^ {2}[✓!] ${item} `, "m"));
  }
  expect(await listFiles(folder)).toEqual([]);
});

describe.each(majors)("with a cluster of PostgreSQL %i", (major) => {
  const name = `shop${major}`;

  test("the cluster is added by its endpoint and can be protected", async () => {
    const server = serverOf(major);
    await server.sql("postgres", "create database orders");
    await server.sql("orders", "create table orders as select i as id, md5(i::text) from generate_series(1, 2000) i");
    const endpoint = `127.0.0.1:${server.port}`;
    await installation.must(["cluster", "add", name, "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
      input: `${server.password}\n`,
    });
    const said = await installation.must(["cluster", "check", name]);
    expect(said).toMatch(new RegExp(`^✓ cluster ${name} can be protected`));
    expect(said).toContain(`PostgreSQL ${major} answers at ${endpoint}`);
    expect(said).toContain(`next: coppice backup create ${name}`);
  });

  test("one command takes a checked backup and says how to restore it", async () => {
    const said = await installation.must(["backup", "create", name]);
    expect(said).toMatch(
      new RegExp(
        String.raw`^✓ bkp_\w{26}  3 databases, [\d.]+ MB → [\d.]+ kB in [\d.]+ \w+, checked\n` +
          `  next: coppice restore create ${name} --database orders --as orders-copy\n`,
      ),
    );
    const list = ["backup", "list", "--cluster", name];
    const { backups } = await installation.json<{ backups: { id: string; complete: boolean }[] }>(list);
    expect(backups).toMatchObject([{ id: said.slice(2, 32), complete: true }]);
    expect(await installation.must(["backup", "verify", said.slice(2, 32)])).toMatch(/every digest matches\n/);
  });

  test("what it says next restores the database beside the original, with the same rows", async () => {
    const server = serverOf(major);
    const said = await installation.must(["restore", "create", name, "--database", "orders", "--as", "orders-copy"]);
    expect(said).toContain(`✓ orders-copy is restored in ${name}: `);
    expect(said).toContain("1 table with 2000 rows counted");
    expect(await server.sql("orders-copy", rows)).toBe(await server.sql("orders", rows));
  });

  test("the fleet is healthy afterwards", async () => {
    const { lastGoodDump } = await installation.json<{ lastGoodDump?: object }>(["cluster", "get", name]);
    expect(lastGoodDump).toBeDefined();
    expect(await installation.must(["status", "--check"])).toMatch(new RegExp(`^${name} +ok +`, "m"));
  });
});

test("a folder that the agent may not write is refused with what mends it, and nothing is written", async () => {
  // Root may write everywhere, so that agent is another user; who runs this as himself takes his own right away.
  await installation.addAgent("db8", isRoot ? { user: "nobody" } : {});
  const folder = join(installation.folder, "not-yours");
  await mkdir(folder);
  await chmod(folder, 0o555);

  const tried = await installation.coppice(["repo", "add", "locked", `db8:${folder}`, "--check"]);
  expect(tried.code).toBe(1);
  expect(tried.stdout).toBe("");
  expect(tried.stderr).toMatch(/^✗ repository locked does not work from db8, checked in /m);
  expect(tried.stderr).toMatch(/^ {2}next: install -d -m 0700 -o \S+ '.*\/not-yours'$/m);
  expect(tried.stderr).toMatch(/^ {2}✗ write /m);

  const server = serverOf(15);
  const endpoint = `127.0.0.1:${server.port}`;
  await installation.must(["cluster", "add", "theirs", "--host", "db8", "--endpoint", endpoint, "--password-stdin"], {
    input: server.password,
  });
  const backup = await installation.coppice(["backup", "create", "theirs", "--to", "locked"]);
  expect(backup.code).toBe(4);
  expect(backup.stderr).toMatch(/^✗ op_\w{26} failed in preflight on db8 \([\d.]+ \w+\): .*not-yours/m);
  expect(backup.stderr).toMatch(/^ {2}next: let the agent's user write the folder, and try again$/m);
  expect(backup.stderr).toMatch(/^ {2}safe: nothing half-made was left behind; there is no good backup yet$/m);
  expect(await readdir(folder)).toEqual([]);
  expect(await installation.must(["backup", "list", "--cluster", "theirs"])).toMatch(/^no backups\n/);
  // Whoever does what was said gets on.
  await chmod(folder, 0o777);
  await installation.must(["backup", "create", "theirs", "--to", "locked"]);
});
