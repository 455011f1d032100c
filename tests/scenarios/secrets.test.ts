// One thing: everything that a run writes, shows or lets others see, held against the secrets that were in it.
import { randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findRunningServer } from "../../control-plane/src/embedded/embedded-postgres.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { type Ended, runProgram } from "../support/run-program.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { putGate } from "../support/scenarios/gate.ts";
import { holdTable } from "../support/scenarios/held-table.ts";
import { listDescendants, listProcesses } from "../support/scenarios/processes.ts";
import { addRepository } from "../support/scenarios/protect.ts";

const secretText = (name: string) => `${name}${randomBytes(16).toString("hex")}`;

let installation: Installation;
let server: PostgresServer;
/** Every secret of the run by what it is. */
const secrets = new Map<string, string>();
/** All that programs said, by their command lines. */
const answers = new Map<string, string>();
const commandLines = new Set<string>();
const sampling = new AbortController();
let sampled: Promise<void> | undefined;

beforeAll(async () => {
  [installation, server] = await Promise.all([openInstallation(), openPostgresServer({ major: 18 })]);
  sampled = sampleCommandLines();
});
afterAll(async () => {
  sampling.abort();
  await sampled;
  await installation?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** Looks all the time at what everybody on the machine may see of every process. */
async function sampleCommandLines(): Promise<void> {
  while (!sampling.signal.aborted) {
    for (const { argv } of await listProcesses()) commandLines.add(argv.join(" "));
    await delay(300);
  }
}

async function run(args: readonly string[], options?: { input?: string; env?: NodeJS.ProcessEnv }): Promise<Ended> {
  const { input = "", env = installation.env } = options ?? {};
  const ended = await runProgram(findPrograms().coppice, args, { env, input });
  answers.set(`coppice ${args.join(" ")} (${answers.size})`, ended.stdout + ended.stderr);
  return ended;
}

/** A secret as it is, and as it would look in a dump, a body or a URL. */
function disguises(secret: string): Buffer[] {
  const bytes = Buffer.from(secret, "utf8");
  // The first bytes of a base64 text stay what they are, whatever follows them.
  const base64 = bytes.toString("base64").slice(0, Math.floor(bytes.length / 3) * 4);
  return [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret), bytes.toString("hex"), base64].map(
    (text) => Buffer.from(text, "utf8"),
  );
}

/** The names of the secrets that are in the bytes. */
function findSecrets(bytes: Buffer): string[] {
  return [...secrets]
    .filter(([, secret]) => disguises(secret).some((form) => bytes.includes(form)))
    .map(([name]) => name);
}

/** Which secrets are in which files below a folder; those of `own` are where they belong. */
async function findInFiles(folder: string, own: RegExp): Promise<string[]> {
  const found: string[] = [];
  for (const file of await listFiles(folder)) {
    if (own.test(file)) continue;
    // What the server writes and removes meanwhile may be gone.
    const bytes = await readFile(join(folder, file)).catch(() => Buffer.alloc(0));
    found.push(...findSecrets(bytes).map((name) => `${name} in ${file}`));
  }
  return found;
}

test("a run with passwords and tokens goes as it should", async () => {
  const [password, wrong] = [secretText("swordfish"), secretText("haddock")];
  await server.sql("postgres", `alter role postgres password '${password}'; create database shop`);
  await server.sql("shop", "create table sold as select generate_series(1, 100) as id");
  const gate = await putGate({ ...server, password }, "shop");
  secrets.set("password", password).set("refused password", wrong).set("admin token", installation.adminToken);

  await installation.addAgent("db7");
  const enrolment = await installation.json<{ token: string; command: string }>(["host", "add", "db9"]);
  secrets.set("enrolment token", enrolment.token);
  const token = await installation.json<{ value: string }>(["token", "create", "reader", "--role", "viewer"]);
  secrets.set("viewer token", token.value);
  const identity = await readFile(join(installation.folder, "agent-db7/identity.json"), "utf8");
  const { privateKeyPem } = JSON.parse(identity) as { privateKeyPem: string };
  secrets.set("key of the agent", privateKeyPem.split("\n")[1] ?? "");
  const kept = (file: string) => readFile(join(installation.folder, "control", file), "utf8");
  secrets.set("master key", (await kept("master.key")).trim());
  secrets.set("password of the catalog", (await kept("postgresql-password")).trim());
  for (const [name, secret] of secrets) expect(`${name}: ${secret.length}`).toMatch(/: (2[0-9]|[3-9][0-9]|[0-9]{3,})$/);

  await addRepository(installation, "main", "db7");
  const endpoint = `127.0.0.1:${server.port}`;
  await run(["cluster", "add", "demo", "--host", "db7", "--endpoint", endpoint, "--password-stdin"], { input: wrong });
  expect((await run(["cluster", "check", "demo"])).code).toBe(1);
  expect((await run(["backup", "create", "demo"])).code).toBe(4);
  expect((await run(["cluster", "update", "demo", "--password-stdin"], { input: password })).code).toBe(0);

  const names = new Set<string>();
  const lookAtEnvironments = async () => {
    for (const { pid, name, argv } of await listDescendants(installation.agent("db7").pid)) {
      commandLines.add(argv.join(" "));
      // Those that had less to do may have ended by now.
      const environment = await readFile(`/proc/${pid}/environ`).catch(() => Buffer.alloc(0));
      if (findSecrets(environment).length > 0) names.add(name);
    }
  };
  const held = await holdTable({ ...server, password }, "shop", "sold");
  const backup = run(["backup", "create", "demo", "--jobs", "4"]);
  await held.waitedFor();
  await lookAtEnvironments();
  await held[Symbol.asyncDispose]();
  expect((await backup).code).toBe(0);
  await gate.close();
  const restore = run(["restore", "create", "demo", "--database", "shop", "--as", "copy"]);
  await gate.waitedFor("coppice\\_restore\\_%");
  await lookAtEnvironments();
  await gate.open();
  expect((await restore).code).toBe(0);

  // Their own environment, which only their user can read, is how PostgreSQL's tools get the password, and nobody else.
  expect([...names].filter((name) => !/^(pg_dump|pg_restore|psql|sh)$/.test(name))).toEqual([]);
});

test("no answer and no error of the CLI shows a secret that was given, or one that was shown before", async () => {
  const { operations } = await installation.call<{ operations: { id: string; kind: string }[] }>(
    "OperationService/ListOperations",
    {},
  );
  const worked = operations.filter(({ kind }) => kind.startsWith("create_")).map(({ id }) => id);
  const { backups } = await installation.call<{ backups: { id: string }[] }>("BackupService/ListBackups", {});
  const nouns = ["host", "cluster", "repository", "operation", "token", "audit"];
  await Promise.all([
    ...nouns.map((noun) => run([noun, "list", "-o", "json"])),
    ...worked.flatMap((id) => [run(["operation", "get", id]), run(["operation", "logs", id])]),
    ...backups.flatMap(({ id }) => [run(["backup", "get", id, "-o", "yaml"]), run(["backup", "recipe", id])]),
    ...[["cluster", "get", "demo"], ["host", "get", "db7"], ["status"]].map((args) => run([...args, "-o", "json"])),
  ]);
  // One letter more, and it is nobody's token.
  const wrongToken = { ...installation.env, COPPICE_TOKEN: `${installation.adminToken}x` };
  expect((await run(["status"], { env: wrongToken })).code).toBe(5);
  expect((await run(["cluster", "add", "demo", "--host", "db7", "--password-stdin"], { input: "x\0y" })).code).not.toBe(
    0,
  );
  const shown = (text: string) => findSecrets(Buffer.from(text));
  expect([...answers].flatMap(([command, text]) => shown(text).map((name) => `${name}: ${command}`))).toEqual([]);
});

test("no command line of any process ever showed one", () => {
  const seen = [...commandLines];
  for (const program of ["pg_dump ", "pg_restore ", "coppice-agent/main.js", "coppice/main.js"]) {
    expect(seen.some((line) => line.includes(program))).toBe(true);
  }
  expect(seen.flatMap((line) => findSecrets(Buffer.from(line)).map((name) => `${name}: ${line}`))).toEqual([]);
});

test("no log, no file of the agent and no file of a repository holds one, but for the agent's own key", async () => {
  for (const file of installation.logFiles()) expect(findSecrets(await readFile(file))).toEqual([]);
  const agent = join(installation.folder, "agent-db7");
  expect(await findInFiles(agent, /^identity\.json$/)).toEqual([]);
  expect((await stat(join(agent, "identity.json"))).mode & 0o077).toBe(0);
  expect(findSecrets(await readFile(join(agent, "identity.json")))).toEqual(["key of the agent"]);
  expect(await findInFiles(join(installation.folder, "repository-main"), /^$/)).toEqual([]);
});

test("neither the catalog nor a file beneath it holds one, but for those that open it", async () => {
  const control = join(installation.folder, "control");
  const url = new URL((await findRunningServer(control)) ?? "");
  const dump = await runProgram(join(server.binDir, "pg_dump"), ["--dbname=postgres"], {
    env: {
      PATH: "/usr/bin:/bin",
      PGHOST: url.searchParams.get("host") ?? "",
      PGUSER: url.username,
      PGPASSWORD: decodeURIComponent(url.password),
    },
  });
  expect(dump).toMatchObject({ code: 0, stderr: "" });
  expect(dump.stdout).toContain("COPY public.operation ");
  expect(findSecrets(Buffer.from(dump.stdout))).toEqual([]);
  expect(await findInFiles(control, /^(master\.key|postgresql-password)$/)).toEqual([]);
  for (const file of ["master.key", "postgresql-password"]) {
    expect((await stat(join(control, file))).mode & 0o077).toBe(0);
  }
});
