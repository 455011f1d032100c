// One thing: the story of one night, told in order; each step stands on what the one before has left.
import { chmod, chown, cp, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startBackground } from "../support/background.ts";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { type Ended, runProgram } from "../support/run-program.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { openOtherUser } from "../support/scenarios/other-user.ts";
import { addCluster, addEncryptedRepository } from "../support/scenarios/protect.ts";

const major = 18;
const richCluster = new URL("../support/dumps/rich-cluster.sql", import.meta.url);
const richDatabase = new URL("../support/dumps/rich-database.sql", import.meta.url);
const databases = ["orders", "shop", "postgres", "template1"];

// What is left that night: a repository that was carried elsewhere, and the file that was kept in the safe.
const stack = new AsyncDisposableStack();
let folder: string;
let repository: string;
let key: AgeKey;
let identity: string;
let backupId: string;
let agent: readonly string[];
let server: PostgresServer;
const before = new Map<string, string>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-night-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  key = await makeAgeKey();
  const { agent: program } = findPrograms();
  // The new machine knows nothing of whoever ran the old one.
  await chmod(folder, 0o755);
  await mkdir(join(folder, "tmp"));
  await chmod(join(folder, "tmp"), 0o777);
  const other = process.getuid?.() === 0 ? await openOtherUser("nobody", { agent: program, folder }) : undefined;
  agent = other?.commandLine ?? [program];
  [repository, identity] = [join(folder, "repository"), join(folder, "kit.txt")];
  await writeFile(identity, key.identityFile, { mode: 0o600 });
  backupId = await loseEverything();
  if (other) {
    const files = ["", ...(await readdir(repository, { recursive: true }))].map((name) => join(repository, name));
    for (const path of [...files, identity]) await chown(path, other.uid, other.gid);
  }
  server = stack.use(await openPostgresServer({ major }));
});
afterAll(() => stack.disposeAsync());

/** One good backup; then control plane, agent and cluster are gone with everything that they had. Gives its id. */
async function loseEverything(): Promise<string> {
  await using installation = await openInstallation();
  await using old = await openPostgresServer({ major });
  await old.sql("postgres", await readFile(richCluster, "utf8"));
  await old.sql("shop", await readFile(richDatabase, "utf8"));
  await old.sql("postgres", "create database orders; create table note (t text); insert into note values ('kept')");
  await old.sql("template1", "create function template_only() returns int language sql return 1");
  await old.sql("orders", "create table orders as select i as id, md5(i::text) from generate_series(1, 200000) i");
  for (const database of databases) before.set(database, await portrayDatabase(old, database));

  await installation.addAgent("db7");
  const { recipient } = key;
  const home = await addEncryptedRepository(installation, "main", { host: "db7", recipient, identityFile: identity });
  await addCluster(installation, "shop", { host: "db7", server: old });
  await installation.must(["backup", "create", "shop"]);
  const { backups } = await installation.json<{ backups: { id: string }[] }>(["backup", "list"]);

  for (const lost of [installation.controlPlane(), installation.agent("db7")]) await lost.end("SIGKILL");
  // The catalog's own server would outlive the control plane for a minute.
  const catalog = await readFile(join(installation.folder, "control/postgresql/data/postmaster.pid"), "utf8");
  process.kill(Number(catalog.split("\n")[0]), "SIGKILL");
  await old.stop("kill");
  await cp(home, repository, { recursive: true });
  await writeFile(join(repository, "holiday.jpg"), "no object of Coppice");
  return backups[0]?.id ?? "";
}

/** The agent on the new machine, where there is nothing: no settings, no enrolment, no home. */
function run(...args: string[]): Promise<Ended> {
  const [file = "", ...first] = agent;
  return runProgram(file, [...first, ...args], { env: nothing() });
}

const nothing = () => ({ PATH: "/usr/bin:/bin", PGPASSWORD: server.password, TMPDIR: join(folder, "tmp") });
const toServer = () => ["--to", `127.0.0.1:${server.port}`];
const withKey = () => ["--identity", identity];

async function databaseOids(): Promise<string> {
  return await server.sql("postgres", "select datname, oid from pg_database order by 1");
}

test("the repository says what it holds: clusters, backups, databases, to whom it is encrypted, and what is foreign", async () => {
  const { code, stdout, stderr } = await run("ls", "--repo", repository);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(new RegExp(`^shop  cls_\\w{26}  last good ${backupId}$`, "m"));
  expect(stdout).toMatch(
    new RegExp(`^ +${backupId}  \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\dZ  dump  complete  [\\d.]+ \\w+$`, "m"),
  );
  expect(stdout).toContain(`encrypted to ${key.recipient.slice(0, 14)}`);
  expect(stdout).toContain("1 object that no Coppice has made");
  const listed = JSON.parse((await run("ls", "--repo", `file://${repository}`, "-o", "json")).stdout) as {
    clusters: { name: string; lastGood: string; backups: { recipients: string[]; databases: { name: string }[] }[] }[];
  };
  expect(listed).toMatchObject({
    foreignObjects: 1,
    unreadable: [],
    clusters: [{ name: "shop", lastGood: backupId, backups: [{ complete: true, recipients: [key.recipient] }] }],
  });
  const names = listed.clusters[0]?.backups[0]?.databases.map(({ name }) => name);
  expect(names?.toSorted()).toEqual(databases.toSorted());
});

test("it is verified without the identity, and looked into with it", async () => {
  const plain = await run("verify", "--repo", repository);
  expect(plain.code, plain.stderr).toBe(0);
  expect(plain.stdout).toMatch(new RegExp(`^✓ ${backupId} .*every digest matches\n$`));
  const content = await run("verify", "shop", "--repo", repository, "--content", ...withKey());
  expect(content.code, content.stderr).toBe(0);
  expect(content.stdout).toContain("all of it can be decoded");
});

test("a missing or wrong identity, an unknown cluster and a bad flag are refused with what comes next", async () => {
  const other = join(folder, "other.txt");
  await writeFile(other, (await makeAgeKey()).identityFile, { mode: 0o644 });
  const restore = ["restore", "shop", "--repo", repository, "--all", ...toServer()];
  const tries: [number, string[]][] = [
    [4, restore],
    [4, [...restore, "--identity", other]],
    [4, ["verify", "--repo", repository, "--content"]],
    [3, ["restore", "nope", "--repo", repository, "--all", ...toServer(), ...withKey()]],
    [3, [...restore, "--backup", "bkp_0", ...withKey()]],
    [2, ["restore", "shop", "--repo", repository, ...toServer(), ...withKey()]],
    [2, ["ls", "--repo", "somewhere"]],
    [2, ["ls"]],
    [6, ["ls", "--repo", join(folder, "nowhere")]],
    [6, ["restore", "shop", "--repo", repository, "--all", "--to", "127.0.0.1:1", ...withKey()]],
  ];
  for (const [code, args] of tries) {
    const ended = await run(...args);
    expect(ended.code, args.join(" ")).toBe(code);
    expect(ended.stderr, args.join(" ")).toMatch(/^✗ .+\n {2}next: .+\n/m);
    expect(ended.stdout, args.join(" ")).toBe("");
  }
  expect((await run(...restore)).stderr).toContain(key.recipient);
});

test("the plan says what would be done, and nothing is", async () => {
  const fresh = await databaseOids();
  const planned = await run("restore", "shop", "--repo", repository, "--all", ...toServer(), ...withKey(), "--plan");
  expect(planned.code, planned.stderr).toBe(0);
  expect(planned.stdout).toContain("globals: 3 new roles");
  for (const database of databases) expect(planned.stdout).toMatch(new RegExp(`^${database}: .* to read`, "m"));
  expect(planned.stdout).toMatch(/^postgres: .*in place of the empty one$/m);
  expect(await databaseOids()).toBe(fresh);
  expect(await server.sql("postgres", "select count(*) from pg_roles where rolname = 'shop_owner'")).toBe("0");
});

test("a restore that is killed leaves what was there as it was, and the next one clears up and goes on", async () => {
  const [file = "", ...first] = agent;
  const args = ["restore", "shop", "--repo", repository, "--all", ...toServer(), ...withKey()];
  const logFile = join(folder, "killed.log");
  const killed = startBackground(file, [...first, ...args], { logFile, env: nothing() });
  const staged = "datname like 'coppice_restore_offline%'";
  await waitFor("the second database is begun", async () => {
    const seen = `select string_agg(datname, ' ') from pg_database where datname = 'orders' or ${staged}`;
    return (await server.sql("postgres", seen)).startsWith("orders coppice_");
  });
  await killed.end("SIGKILL");
  const fresh = "select count(*) from pg_database where (datname, oid) in (('postgres', 5), ('template1', 1))";
  expect(await server.sql("postgres", fresh)).toBe("2");
  expect(await server.sql("postgres", "select count(*) from pg_database where datname = 'shop'")).toBe("0");

  const again = await run(...args);
  expect(again.code, again.stderr).toBe(0);
  expect(again.stdout).toContain("✓ orders is in place already, from an earlier run");
  expect(again.stdout).toMatch(/^✓ shop is restored: \d+ objects compared, \d+ tables with \d+ rows counted$/m);
  // What goes on is told a line at a time, where there is no terminal.
  expect(again.stderr).toMatch(/^restoring shop/m);
  expect(again.stderr).not.toContain("\r");
  expect(await server.sql("postgres", `select count(*) from pg_database where ${staged}`)).toBe("0");
  expect(await readdir(join(folder, "tmp"))).toEqual([]);
});

test("the restored cluster is the lost one: every database, its properties, its rows, the roles", async () => {
  for (const database of databases)
    expect(await portrayDatabase(server, database), database).toBe(before.get(database));
  const names = await server.sql("postgres", "select string_agg(datname, ' ' order by datname) from pg_database");
  expect(names).toBe("orders postgres shop template0 template1");
  await server.sql("postgres", "create database from_template");
  expect(await server.sql("from_template", "select template_only()")).toBe("1");
  await server.sql("postgres", "drop database from_template");
});

test("one database comes back under another name, or in place of one that is kept", async () => {
  const from = ["restore", "shop", "--repo", repository, "--database", "orders", ...toServer(), ...withKey()];
  const taken = await run(...from);
  expect(taken.code, taken.stderr).toBe(4);
  expect(taken.stderr).toContain('the database "orders" exists already');
  const copied = await run(...from, "--as", "orders copy", "--jobs", "2");
  expect(copied.code, copied.stderr).toBe(0);
  expect(await server.sql("orders copy", "select count(*) from orders")).toBe("200000");
  await server.sql("orders", "truncate orders");
  const unconfirmed = await run(...from, "--replace");
  expect(unconfirmed.code, unconfirmed.stderr).toBe(2);
  expect(unconfirmed.stderr).toMatch(
    /^✗ the database orders at .* is replaced, .* not confirmed, nothing was changed\n.*--yes/m,
  );
  expect(await server.sql("orders", "select count(*) from orders")).toBe("0");
  const replaced = await run(...from, "--replace", "--yes");
  expect(replaced.stdout, replaced.stderr).toMatch(/what was there is kept as orders_before_\d{14}$/m);
  expect(await portrayDatabase(server, "orders")).toBe(before.get("orders"));
});

test("the morning after, a new control plane takes the repository and the identity over, and looks into what is stored", async () => {
  await using installation = await openInstallation();
  await installation.addAgent("db9");
  const add = ["repository", "add", "main", `db9:${repository}`, "--recovery-recipient", key.recipient];
  await installation.must([...add, "--recovery-identity", identity, "--identity", identity]);
  expect(await installation.must(["repository", "rebuild", "main"])).toContain("1 backup entered");
  await installation.must(["host", "update", "db9", "--label", "may-decrypt=true"]);
  await installation.must(["backup", "verify", backupId, "--content"]);
});

test("a flipped byte is found and named, and costs the one database that it is in", async () => {
  const listed = JSON.parse((await run("ls", "--repo", repository, "-o", "json")).stdout) as {
    clusters: { id: string; backups: { folder: string }[] }[];
  };
  const [cluster] = listed.clusters;
  const place = join(repository, cluster?.id ?? "", "backups", cluster?.backups[0]?.folder ?? "");
  const manifest = JSON.parse(await readFile(join(place, "manifest.json"), "utf8")) as {
    dump: { databases: { name: string; stream: { objects: { key: string }[] } }[] };
  };
  const damaged = manifest.dump.databases.find(({ name }) => name === "shop")?.stream.objects[0]?.key ?? "";
  await using file = await open(join(place, damaged), "r+");
  const { size } = await file.stat();
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, size - 1);

  const verified = await run("verify", backupId, "--repo", repository);
  expect(verified.code, verified.stderr).toBe(1);
  expect(verified.stdout).toContain(`shop: object `);
  expect(verified.stdout).toContain(damaged);
  await using empty = await openPostgresServer({ major });
  server = empty;
  const partly = await run("restore", "shop", "--repo", repository, "--all", ...toServer(), ...withKey());
  expect(partly.code, partly.stderr).toBe(8);
  expect(partly.stderr).toMatch(/^✗ 1 of 4 databases are not restored$/m);
  expect(partly.stdout).toMatch(/^✗ shop is not restored: /m);
  for (const database of databases.filter((name) => name !== "shop"))
    expect(await portrayDatabase(empty, database), database).toBe(before.get(database));
  expect(await listFiles(place)).toContain(damaged);
});
