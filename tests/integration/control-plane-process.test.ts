import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeDataFolder } from "../support/control-plane.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";

const main = join(import.meta.dirname, "../../control-plane/src/main.ts");
let folder = "";
let running: ChildProcess[] = [];

beforeEach(async () => {
  folder = await makeDataFolder();
});
afterEach(async () => {
  for (const child of running) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  running = [];
  await rm(folder, { recursive: true });
});

function start(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  // The settings of a Coppice that is installed on this machine are not meant.
  const own = { PATH: process.env["PATH"], COPPICE_CONFIG: "/dev/null" };
  const child = spawn(process.execPath, [main, ...args], { stdio: "pipe", env: { ...own, ...env } });
  running.push(child);
  return child;
}

async function run(args: readonly string[], env: Record<string, string> = {}) {
  const child = start(args, env);
  const output = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...output };
}

/** Starts a control plane and waits until it says where it listens; gives that and all it said. */
async function serve(dataDir: string, env: Record<string, string> = {}) {
  const tokenFile = join(folder, "token");
  const args = ["serve", "--data-dir", dataDir, "--listen", "127.0.0.1:0", "--bootstrap-token-file", tokenFile];
  const child = start(args, { COPPICE_LOG_LEVEL: "warn", ...env });
  let said = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (said += text));
  await expect
    .poll(() => said.includes("CA fingerprint sha256:") || child.exitCode !== null, { timeout: 60_000 })
    .toBe(true);
  const address = /listening on (\S+)/.exec(said)?.[1];
  if (address === undefined) throw new Error(`it did not start: ${said}`);
  return { child, address, said: () => said, token: (await readFile(tokenFile, "utf8")).trim() };
}

async function postmasters(dataDir: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const cwd = await readlink(`/proc/${name}/cwd`).catch(() => "");
    if (cwd.startsWith(dataDir) && (await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "")).includes("-D")) {
      found.push(Number(name));
    }
  }
  return found;
}

test("it starts again after kill -9, ends the server it had left behind, and knows its tokens", async () => {
  const dataDir = join(folder, "data");
  const first = await serve(dataDir);
  expect((await stat(join(folder, "token"))).mode & 0o777).toBe(0o600);
  expect(first.said()).not.toContain(first.token);
  const [left] = await postmasters(dataDir);
  first.child.kill("SIGKILL");
  await once(first.child, "exit");
  expect(await postmasters(dataDir)).toEqual([left]);

  const second = await serve(dataDir);
  expect(second.said()).not.toContain("first admin token");
  expect(second.token).toBe(first.token);
  expect(/sha256:\w+/.exec(second.said())?.[0]).toBe(/sha256:\w+/.exec(first.said())?.[0]);
  expect(await postmasters(dataDir)).not.toContain(left);

  const made = await run(["token", "create", "--data-dir", dataDir, "--name", "ci", "--role", "viewer"]);
  expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^cop_[\w-]{43}\n$/) as string, stderr: "" });
  expect(await run(["migrate", "--data-dir", dataDir])).toMatchObject({
    code: 0,
    stdout: "the catalog is up to date\n",
  });

  second.child.kill("SIGTERM");
  const [code] = (await once(second.child, "exit")) as [number | null];
  expect(code).toBe(0);
  expect(await postmasters(dataDir)).toEqual([]);
});

test("a token is made of a name and a role, and a wrong command line ends with 2", async () => {
  const create = ["token", "create", "--data-dir", join(folder, "none")];
  for (const [words, said] of [
    [["--name", "ci"], "--role"],
    [["--name", "CI", "--role", "viewer"], '--name "CI" is no name'],
    [["--name", "ci", "--name", "cd", "--role", "viewer"], "--name is given more than once"],
    [["--name", "", "--role", "viewer"], "--name is given and empty"],
  ] as const) {
    expect(await run([...create, ...words])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(said) as string,
    });
  }
});

test("where the server's user cannot enter, its folder lies elsewhere and is named", async () => {
  const closed = join(folder, "closed");
  await mkdir(closed, { mode: 0o700 });
  const dataDir = join(closed, "data");
  const { child } = await serve(dataDir);
  const named = await readFile(join(dataDir, "postgresql-folder"), "utf8").catch(() => join(dataDir, "postgresql"));
  // Only root runs the server as somebody else.
  expect(named.startsWith("/var/lib/coppice-")).toBe(process.getuid?.() === 0);
  child.kill("SIGTERM");
  await once(child, "exit");
  await rm(named.trim(), { recursive: true });
});

test("a catalog elsewhere is used in the same way, from PostgreSQL 15 on", async () => {
  await using server = await openPostgresServer({ major: 15 });
  await server.sql("postgres", "create database catalog");
  const url = `postgres://postgres:${server.password}@127.0.0.1:${server.port}/catalog`;
  const dataDir = join(folder, "data");
  const { child, said } = await serve(dataDir, { COPPICE_DATABASE_URL: url });
  expect(await server.sql("catalog", "select count(*) from token")).toContain("1");
  expect(await readdir(dataDir)).toEqual(["master.key"]);
  expect(said()).not.toContain(server.password);
  child.kill("SIGTERM");
  await once(child, "exit");
  // Without the key that sealed its secrets the catalog is of no use, and nothing makes it a new one.
  await rm(join(dataDir, "master.key"));
  const other = await run(["serve", "--data-dir", dataDir, "--listen", "127.0.0.1:0"], { COPPICE_DATABASE_URL: url });
  expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("sealed with another master key") as string });
});

test("a wrong configuration ends it with status 2, all problems and no stack", async () => {
  const file = join(folder, "bad.yaml");
  await writeFile(file, "listen: nowhere\nlog_level: loud\n");
  const { code, stderr } = await run(["serve", "--config", file, "--data-dir", join(folder, "data")]);
  expect(code).toBe(2);
  expect(stderr).toContain("listen");
  expect(stderr).toContain("log_level");
  expect(stderr).not.toContain("    at ");
});

test("the settings and the version are shown without starting anything", async () => {
  const dataDir = join(folder, "data");
  const env = { COPPICE_DATABASE_URL: "postgres://user:hunter2@host/db" };
  const [shown, version] = await Promise.all([
    run(["serve", "--print-config", "--data-dir", dataDir], env),
    run(["--version"]),
  ]);
  expect(shown).toMatchObject({ code: 0, stdout: expect.stringContaining(`data_dir: ${dataDir}`) as string });
  expect(shown.stdout).not.toContain("hunter2");
  expect(version).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^coppice-control \d+\.\d+\.\d+\n$/) as string,
  });
  expect(await readdir(folder)).toEqual([]);
});
