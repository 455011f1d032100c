import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { type Ended, runProgram } from "../support/run-program.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { addCluster, addRepository } from "../support/scenarios/protect.ts";

const isRoot = process.getuid?.() === 0;
const env = { PATH: process.env["PATH"] };

let installation: Installation;
let server: PostgresServer;
let repository: string;
let databases: string;

beforeAll(async () => {
  [installation, server] = await Promise.all([openInstallation(), openPostgresServer({ major: 18 })]);
  await server.sql("postgres", "create database shop");
  await server.sql("shop", "create table sold as select generate_series(1, 100) as id");
  databases = await server.sql("postgres", "select datname, oid from pg_database order by 1");
  await installation.addAgent("db7");
  repository = await addRepository(installation, "main", "db7");
  await addCluster(installation, "demo", { host: "db7", server });
  await installation.must(["backup", "create", "demo"]);
});
afterAll(async () => {
  await installation?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** What could be touched: the files of the repository, the databases, the backups that are listed. */
async function look(): Promise<unknown> {
  return {
    files: await listFiles(repository),
    databases: await server.sql("postgres", "select datname, oid from pg_database order by 1"),
    backups: await installation.call("BackupService/ListBackups", {}),
  };
}

let before: unknown;
beforeEach(async () => {
  before = await look();
});

/** Runs a command that is refused: in words, with the exit code, with what to do next, and with nothing touched. */
async function expectRefused(args: readonly string[], code: number, message: RegExp): Promise<Ended> {
  const ended = await installation.coppice(args);
  expect(`${ended.code}: ${ended.stderr}`).toMatch(new RegExp(`^${code}: `));
  expect(ended.stdout).toBe("");
  expect(ended.stderr).toMatch(message);
  expect(ended.stderr).toMatch(/^ {2}next: \S/m);
  expect(ended.stderr).not.toMatch(/^\s+at |node:internal|\[object/m);
  return ended;
}

test("a name that nothing has is answered with where the names are", async () => {
  const backup = "bkp_01kaj3v8m2e7rv1q6c0d9w5x4t";
  const operation = "op_01kaj3v8m2e7rv1q6c0d9w5x4t";
  const unknown: [string[], RegExp][] = [
    [["backup", "create", "nobody"], /^✗ .*cluster .*nobody/],
    [["backup", "create", "demo", "--to", "nowhere"], /^✗ .*repository .*nowhere/],
    [["backup", "get", backup], new RegExp(`^✗ .*${backup}`)],
    [["backup", "verify", backup], new RegExp(`^✗ .*${backup}`)],
    [["backup", "delete", backup, "--yes"], new RegExp(`^✗ .*${backup}`)],
    [["operation", "cancel", operation], new RegExp(`^✗ .*${operation}`)],
    [["repo", "add", "other", "nohost:/srv/x"], /^✗ .*host .*nohost/],
    [["restore", "create", "demo", "--database", "nothing", "--as", "x"], /^✗ .*"?nothing"?/],
    [["restore", "plan", "demo", "--database", "shop", "--as", "x", "--to", "nobody"], /^✗ .*cluster .*nobody/],
  ];
  await Promise.all(unknown.map(([args, message]) => expectRefused(args, 3, message)));
  const missing = await installation.coppice(["backup", "create", "demo", "--database", "nothing"]);
  expect(missing.code).toBe(3);
  expect(missing.stderr).toMatch(/^✗ op_\w+ failed .*"nothing"/m);
  expect(await look()).toEqual(before);
});

test("a login at a port where nothing listens says to check the address, not a context", async () => {
  const login = ["login", "127.0.0.1:1", "--ca-fingerprint", installation.caFingerprint];
  const { stderr } = await expectRefused(login, 6, /^✗ the control plane at https:\/\/127.0.0.1:1 does not answer/);
  expect(stderr).toMatch(/^ {2}next: check host and port: /m);
});

test("help is given of a command however deep it lies, and of an unknown one is refused", async () => {
  const help = await installation.coppice(["help", "backup", "create"]);
  expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining("Usage: coppice backup create") as unknown });
  expect(await installation.coppice(["help"])).toMatchObject({ code: 0 });
  await expectRefused(["help", "backups"], 2, /backups/);
});

test("an answer that the disk has no room for is a failure", async () => {
  const { coppice } = findPrograms();
  const line = ["-c", 'exec "$0" audit list >/dev/full', coppice];
  const ended = await runProgram("sh", line, { env: installation.env });
  expect(ended).toMatchObject({ code: 1, stderr: "✗ standard output cannot be written: ENOSPC\n" });
});

test("a folder of one host is refused for the cluster of another, with the hint how it can be had", async () => {
  await installation.addAgent("db8");
  await addCluster(installation, "elsewhere", { host: "db8", server });
  const refused = /^✗ .*repository main is a folder of host db7, not of db8/m;
  await expectRefused(["backup", "create", "elsewhere", "--to", "main"], 4, refused);
  await expectRefused(["repo", "check", "main", "--host", "db8"], 4, refused);
  await expectRefused(
    ["restore", "create", "demo", "--database", "shop", "--as", "x", "--to", "elsewhere"],
    4,
    /^✗ .*main is a folder of host db7/m,
  );
  expect(await look()).toEqual(before);
});

test("a wrong password is said to be wrong, and given again it works", async () => {
  const update = ["cluster", "update", "demo", "--password-stdin"];
  await installation.must(update, { input: "not the password" });
  const checked = await expectRefused(["cluster", "check", "demo"], 1, /^ {2}✗ connection .*password/m);
  expect(checked.stderr).toMatch(/^ {2}next: .*coppice cluster update/m);
  const tried = await expectRefused(
    ["backup", "create", "demo"],
    4,
    /^✗ op_\w+ failed in preflight on db7 .*password/m,
  );
  expect(tried.stderr).toMatch(/^ {2}safe: nothing half-made was left behind; last good backup: .* ago|just now/m);
  const restored = await expectRefused(
    ["restore", "create", "demo", "--database", "shop", "--as", "x"],
    4,
    /^✗ op_\w+ failed .*password/m,
  );
  const id = /op_\w{26}/.exec(restored.stderr)?.[0] ?? "";
  expect(await installation.must(["operation", "logs", id])).toMatch(/ failed: .*password/);
  expect(await look()).toEqual(before);
  expect((await installation.coppice(["status", "--check"])).code).toBe(1);
  await installation.must(update, { input: server.password });
  await installation.must(["cluster", "check", "demo"]);
});

test("a folder that has vanished is not made again somewhere else, and its backups come back with it", async () => {
  const aside = `${repository}.aside`;
  await rename(repository, aside);
  const message = /^✗ op_\w+ failed .*repository-main/m;
  try {
    await expectRefused(["backup", "create", "demo"], 6, message);
    await expectRefused(["restore", "create", "demo", "--database", "shop", "--as", "x"], 6, message);
    const [id = ""] = (await installation.must(["backup", "list", "-o", "name"])).split("\n");
    await expectRefused(["backup", "verify", id], 6, message);
    await expectRefused(["repo", "check", "main"], 1, /^ {2}✗ reachable .*repository-main/m);
    expect(await readdir(installation.folder)).not.toContain("repository-main");
  } finally {
    await rename(aside, repository);
  }
  expect(await look()).toEqual(before);
  await installation.must(["repo", "check", "main"]);
  await installation.must(["restore", "create", "demo", "--database", "shop", "--as", "x"]);
  await server.sql("postgres", "drop database x");
});

// Only root may mount.
test.runIf(isRoot)(
  "a repository without room ends the backup before it begins or in its middle, and takes nothing of it",
  async () => {
    for (const [name, sizeKiB, when] of [
      ["tiny", 8 * 1024, "in preflight "],
      ["small", 24 * 1024, "in dumping "],
    ] as const) {
      const folder = join(installation.folder, `repository-${name}`);
      await mkdir(folder);
      const mounted = await runProgram("mount", ["-t", "tmpfs", "-o", `size=${sizeKiB}k`, "tmpfs", folder], { env });
      expect(mounted).toMatchObject({ code: 0, stderr: "" });
      try {
        await installation.must(["repo", "add", name, `db7:${folder}`]);
        if (name === "small") {
          // Bytes that no codec makes smaller, more than there is room for.
          await server.sql(
            "shop",
            `create table bulk as select ''::bytea as b; alter table bulk alter b set storage external`,
          );
          const line = () => `\\\\x${randomBytes(1024 * 1024).toString("hex")}\n`;
          await server.sql("shop", `copy bulk from stdin;\n${Array.from({ length: 32 }, line).join("")}\\.\n`);
        }
        const tried = await expectRefused(
          ["backup", "create", "demo", "--to", name],
          1,
          new RegExp(`^✗ op_\\w+ failed ${when}on db7 .*(no space left on its device; .* free now|[KM]i?B left)`, "m"),
        );
        expect(tried.stderr).toMatch(/^ {2}next: make room in the repository/m);
        expect(tried.stderr).toMatch(/^ {2}safe: nothing half-made was left behind; last good backup: /m);
        expect((await listFiles(folder)).filter((file) => !file.endsWith("/cluster.json"))).toEqual([]);
      } finally {
        await runProgram("umount", [folder], { env });
      }
    }
    await server.sql("shop", "drop table bulk");
    expect(await look()).toEqual(before);
  },
);

// Only root may hide programs from one process alone.
test.runIf(isRoot)("tools that are older than the server are refused by their versions", async () => {
  const folders = (await readdir("/usr/lib/postgresql")).filter((major) => Number(major) > 15);
  expect(folders).not.toEqual([]);
  // In a mount namespace of its own the agent finds an empty folder where the newer tools are.
  const hide = 'for major in $0; do mount -t tmpfs tmpfs /usr/lib/postgresql/$major/bin || exit 1; done; exec "$@"';
  await installation.addAgent("old", { through: ["unshare", "--mount", "sh", "-c", hide, folders.join(" ")] });
  const repositoryOfOld = await addRepository(installation, "old", "old");
  await addCluster(installation, "new", { host: "old", server });
  const message = /newest tools here are of PostgreSQL 15, and 18 is needed/;
  const checked = await expectRefused(["cluster", "check", "new"], 1, message);
  expect(checked.stderr).toMatch(/^ {2}next: install them .*postgresql-client-18/m);
  await expectRefused(["backup", "create", "new", "--to", "old"], 4, message);
  expect(await listFiles(repositoryOfOld)).toEqual([]);
  expect(await server.sql("postgres", "select datname, oid from pg_database order by 1")).toBe(databases);
});
