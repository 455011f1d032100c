// One thing: an installation that stores, and one that knows nothing but the repository, told from its first backup on.
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newId } from "@coppice/proto/kit/id";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openRealAgent } from "../support/real/agent.ts";
import { openTestCli, type TestCli } from "../support/real/cli.ts";
import { runProgram } from "../support/run-program.ts";

const stack = new AsyncDisposableStack();
/** The installation that takes backups, and the one that is set up after everything but the repository is lost. */
let first: { lab: ControlPlaneLab; cli: TestCli };
let second: { lab: ControlPlaneLab; cli: TestCli };
let folder: string;
let backup: string;

async function openSide() {
  const lab = stack.use(await openControlPlaneLab({ heartbeatMs: 1_000 }));
  const cli = stack.use(await openTestCli(lab));
  stack.use(await openRealAgent(lab, "db7"));
  return { lab, cli };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-repository-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  [first, second] = await Promise.all([openSide(), openSide()]);
  const { server } = first.lab;
  await server.sql("postgres", "create database shop");
  await server.sql(
    "shop",
    "create table sold as select i as id, md5(i::text) as what from generate_series(1, 500) i; alter table sold enable row level security; select lo_from_bytea(0, 'large')",
  );
});
afterAll(() => stack.disposeAsync());

const endpointOf = ({ lab }: { lab: ControlPlaneLab }) => `127.0.0.1:${lab.server.port}`;

async function listFiles(): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .toSorted();
}

test("the role that `cluster add --create-role` prints takes whole dumps and may change nothing", async () => {
  const { cli, lab } = first;
  const place = ["--host", "db7", "--endpoint", endpointOf(first)];
  const script = await cli.must(["cluster", "add", "shop", ...place, "--create-role"]);
  expect(script).toContain(`CREATE ROLE "coppice" LOGIN BYPASSRLS PASSWORD 'SCRAM-SHA-256$4096:`);
  const { server } = lab;
  const psql = await runProgram(join(server.binDir, "psql"), ["-X", "-q", "-d", "postgres"], {
    input: script,
    env: {
      PATH: process.env["PATH"],
      PGHOST: "127.0.0.1",
      PGPORT: String(server.port),
      PGUSER: server.superuser,
      PGPASSWORD: server.password,
    },
  });
  expect(psql).toMatchObject({ code: 0, stderr: "" });
  // What it leaves to whoever runs it: large objects of others. The check asks for the same statement.
  const [, extra = "none"] = /^-- {3}(ALTER .*;)$/m.exec(script) ?? [];
  const before = await cli.run(["cluster", "check", "shop"]);
  expect(before.code).toBe(8);
  expect(before.stderr).toContain(`fix: ${extra}`);
  await server.sql("postgres", extra);
  const check = await cli.must(["cluster", "check", "shop"]);
  expect(check).toMatch(/✓ privileges +"coppice" may read all data/);
  // All data are those of pg_authid, too, so that the globals are whole.
  expect(check).not.toContain("role-passwords");
  await cli.must(["repository", "add", "main", `db7:${folder}`]);
  backup = (await cli.must(["backup", "create", "shop", "-o", "name"])).trim();
  expect(await cli.must(["backup", "get", backup])).toMatch(/^state: +good$/m);
  const rights = await server.sql(
    "shop",
    "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, has_table_privilege('coppice', 'sold', 'insert,update,delete,truncate') from pg_roles where rolname = 'coppice'",
  );
  expect(rights.trim()).toBe("f|f|f|f|f");
});

test("`repository get` shows the place, and `backup get` how the backup is stored", async () => {
  const { cli } = first;
  expect(await cli.must(["repository", "get", "main"])).toMatch(/^shared: +no, .*\nencryption: +none$/m);
  expect(await cli.must(["backup", "get", backup])).toMatch(/^format: +custom, zstd$[^]*^encrypted: +no$/m);
});

test("cleaning finds what was never finished by its age, shows it first, and leaves all else alone", async () => {
  const { cli } = first;
  const [cluster = ""] = (await readdir(folder)).filter((name) => name.startsWith("cls_"));
  const before = await listFiles();
  const left = join(folder, cluster, "backups", "20200101T000000Z_dump_bkp_01aaaaaaaaaaaaaaaaaaaaaaaa", "db");
  await mkdir(left, { recursive: true });
  await writeFile(join(left, "1.dump.zst.0000"), "half");
  await writeFile(join(folder, "notes.txt"), "mine");
  const look = await cli.must(["repository", "clean", "main", "--dry-run"]);
  expect(look).toMatch(
    /^✓ repository main holds 1 unfinished object, 4 B; nothing was removed\n {2}cls_\w+.*never committed/,
  );
  expect(await listFiles()).toContain(join(left, "1.dump.zst.0000"));
  expect((await cli.run(["repository", "clean", "main"])).stderr).toMatch(/^✗ .*not confirmed, nothing was changed/);
  expect(await cli.must(["repository", "clean", "main", "--yes"])).toMatch(/^✓ 1 unfinished object, .* 1 removed/);
  expect(await listFiles()).toEqual([...before, join(folder, "notes.txt")].toSorted());
  expect(await cli.must(["repo", "clean", "main", "--older-than", "7d", "--yes"])).toMatch(/nothing that was left/);
});

test("an empty catalog is rebuilt from the repository alone, and what is foreign is shown and not touched", async () => {
  const { cli } = second;
  await cli.must(["repository", "add", "old", `db7:${folder}`, "--check"]);
  const before = await listFiles();
  const said = await cli.must(["repository", "rebuild", "old"]);
  expect(said).toMatch(
    /^✓ the catalog has what repository old holds: 1 backup entered, 0 known before, of 1 cluster \(shop\)$/m,
  );
  expect(said).toMatch(/^ {2}1 object that no Coppice made, left alone: notes.txt$/m);
  expect(await listFiles()).toEqual(before);
  expect(await readFile(join(folder, "notes.txt"), "utf8")).toBe("mine");
  expect(await cli.must(["backup", "list", "-o", "name"])).toBe(`${backup}\n`);
  expect(await cli.must(["repository", "rebuild", "old"])).toMatch(/: 0 backups entered, 1 known before/);
  expect(await cli.must(["status"])).toMatch(/nobody backs it up[^]*coppice cluster add shop --host HOST/);
});

test("a rebuild names what it cannot read, enters the rest, and ends with 1", async () => {
  const { cli } = second;
  const [cluster = ""] = (await readdir(folder)).filter((name) => name.startsWith("cls_"));
  const broken = join(folder, cluster, "backups", "20200102T000000Z_dump_bkp_01bbbbbbbbbbbbbbbbbbbbbbbb");
  await mkdir(broken);
  await writeFile(join(broken, "manifest.json"), "{}");
  // As who has lost the content of a repository may have written it.
  const strange = newId("cls");
  await mkdir(join(folder, strange));
  await writeFile(join(folder, strange, "cluster.json"), '{"formatVersion": 1}');
  const ended = await cli.run(["repository", "rebuild", "old"]);
  await rm(broken, { recursive: true });
  await rm(join(folder, strange), { recursive: true });
  expect(ended.code).toBe(1);
  expect(ended.stderr).toMatch(/^✗ not all that repository old holds could be entered: 0 backups entered, 1 known/m);
  expect(ended.stderr).toMatch(
    /^ {2}next: .*\n {2}! [^]*^ {2}! .*20200102T000000Z_dump_bkp_01bbbbbbbbbbbbbbbbbbbbbbbb/m,
  );
  expect(ended.stderr).toContain(`${strange}/cluster.json does not say which cluster it is of`);
});

test("a backup that the catalog knows and the repository has lost is named by a rebuild, and counts as damaged", async () => {
  const { cli } = second;
  const [manifest = ""] = (await listFiles()).filter((file) => file.endsWith("manifest.json"));
  await rename(manifest, `${manifest}.away`);
  const ended = await cli.run(["repository", "rebuild", "old"]);
  await rename(`${manifest}.away`, manifest);
  expect(ended.code).toBe(1);
  expect(ended.stderr).toMatch(/^ {2}! cls_.*bkp_.*: the catalog knows it, and its manifest is not in the repository/m);
  expect(await cli.must(["backup", "get", backup])).toMatch(/^state: +damaged$/m);
  await cli.must(["backup", "verify", backup]);
  expect(await cli.must(["backup", "get", backup])).toMatch(/^state: +good$/m);
});

test("what a removed cluster left of its WAL is named by a rebuild, which does not fail of it", async () => {
  const { cli } = second;
  const [cluster = ""] = (await readdir(folder)).filter((name) => name.startsWith("cls_"));
  const wal = join(folder, cluster, "wal");
  const segments = join(wal, "7300000000000000001", "00000001", "0000000100000000");
  await mkdir(segments, { recursive: true });
  await writeFile(join(segments, "000000010000000000000001"), "wal");
  const said = await cli.must(["repository", "rebuild", "old"]);
  await rm(wal, { recursive: true });
  expect(said).toMatch(/^✓ the catalog has what [^]*^ {2}! cls_\w+\/wal\/7300000000000000001: no physical backup/m);
});

test("a shared folder that outlived its control plane is entered by the next one once its mark is removed", async () => {
  const place = await mkdtemp(join(tmpdir(), "coppice-shared-"));
  stack.defer(() => rm(place, { recursive: true, force: true }));
  await first.cli.must(["repository", "add", "nas", `db7:${place}`, "--shared", "--check"]);
  const { cli } = second;
  const refused = await cli.run(["repository", "add", "nas", `db7:${place}`, "--shared", "--check"]);
  expect(refused.code).toBe(1);
  expect(refused.stdout + refused.stderr).toMatch(/is the shared folder of another repository[^]*remove shared\.json/);
  await rm(join(place, "shared.json"));
  await cli.must(["repository", "check", "nas"]);
  await cli.must(["repository", "rebuild", "nas"]);
});

test("a rebuilt backup is restored into another cluster, and adding the old cluster adopts its backups", async () => {
  const { cli, lab } = second;
  const server = ["--endpoint", endpointOf(second), "--password-stdin"];
  await cli.must(["cluster", "add", "new", "--host", "db7", ...server], { input: lab.server.password });
  await cli.must(["restore", "create", "shop", "--to", "new", "--database", "shop", "--as", "shop-again"]);
  expect((await lab.server.sql("shop-again", "select count(*) from sold")).trim()).toBe("500");
  const known = JSON.parse(await cli.must(["cluster", "get", "shop", "-o", "json"])) as { id: string };
  const place = ["--host", "db7", "--endpoint", endpointOf(first), "--password-stdin"];
  await cli.must(["cluster", "add", "shop", ...place], { input: first.lab.server.password });
  const adopted = JSON.parse(await cli.must(["cluster", "get", "shop", "-o", "json"])) as typeof known;
  expect(adopted.id).toBe(known.id);
  await cli.must(["cluster", "check", "shop"]);
  const next = (await cli.must(["backup", "create", "shop", "--database", "shop", "-o", "name"])).trim();
  const listed = await cli.must(["backup", "list", "--cluster", "shop", "-o", "name"]);
  expect(listed.trim().split("\n").toSorted()).toEqual([backup, next].toSorted());
});

test("`repository add` proves the recovery identity by its file, and `host update` lets a host decrypt", async () => {
  const { cli, lab } = second;
  const identity = await generateX25519Identity();
  const file = join(folder, "..", `coppice-recovery-${process.pid}.txt`);
  stack.defer(() => rm(file, { force: true }));
  await writeFile(file, `# kept elsewhere\n${identity}\n`);
  const recovery = ["--recovery-recipient", await identityToRecipient(identity), "--recovery-identity", file];
  const safe = join(folder, "safe");
  await mkdir(safe);
  expect(await cli.must(["repository", "add", "safe", `db7:${safe}`, ...recovery])).toContain(", encrypted; not tried");
  expect(await cli.must(["repository", "get", "safe"])).toMatch(
    /^identity: +kept sealed, for hosts labelled may-decrypt$/m,
  );
  await writeFile(file, `${await generateX25519Identity()}\n`);
  const other = ["--recovery-recipient", await identityToRecipient(identity), "--recovery-identity", file];
  const refused = await cli.run(["repository", "add", "safe2", `db7:${folder}/safe2`, ...other]);
  expect(refused).toMatchObject({ code: 4, stdout: "" });
  expect(refused.stderr).toMatch(/^✗ the identities in .* are not those of the recovery recipient$/m);
  expect(await cli.must(["host", "update", "db7", "--label", "may-decrypt=true"])).toContain("may-decrypt=true");
  expect(lab.logLines.join("")).not.toContain(identity);
});

test("an encrypted repository that outlived its catalog is opened again by the identity given with it, and by no other", async () => {
  const place = await mkdtemp(join(tmpdir(), "coppice-outlived-"));
  stack.defer(() => rm(place, { recursive: true, force: true }));
  const [files, kept, other] = [join(place, "files"), join(place, "kept.txt"), join(place, "other.txt")];
  await mkdir(files);
  const identity = await generateX25519Identity();
  await writeFile(kept, `# the safe's\n${identity}\n`);
  await writeFile(other, `${await generateX25519Identity()}\n`);
  const recovery = ["--recovery-recipient", await identityToRecipient(identity), "--recovery-identity", kept];
  await first.cli.must(["repository", "add", "outlived", `db7:${files}`, ...recovery]);
  const stored = ["backup", "create", "shop", "--to", "outlived", "-o", "name"];
  const lost = (await first.cli.must(stored)).trim();

  const { cli, lab } = second;
  const add = (...more: string[]) => ["repository", "add", "outlived", `db7:${files}`, ...recovery, ...more];
  expect(await cli.run(add("--identity", other, "--without-identity"))).toMatchObject({ code: 2, stdout: "" });
  const none = await cli.run(add("--identity", "/etc/hostname"));
  expect(none).toMatchObject({ code: 2, stdout: "" });
  expect(none.stderr).toMatch(/^✗ the identity file holds a line that is no X25519 identity$/m);

  await cli.must(add("--identity", other));
  const refused = await cli.run(["repository", "rebuild", "outlived"]);
  expect(refused).toMatchObject({ code: 4, stdout: "" });
  expect(refused.stderr).toMatch(
    /^✗ .* on db7 .*: what repository outlived holds is encrypted to age1.*the identity given with it is/m,
  );
  expect(refused.stderr).toMatch(/^ {2}next: coppice repository remove outlived, and add it with the identity of/m);
  expect(await cli.must(["backup", "list", "-o", "name"])).not.toContain(lost);
  await cli.must(["repository", "remove", "outlived"]);

  await cli.must(add("--identity", kept));
  expect(await cli.must(["repository", "get", "outlived"])).toMatch(/^adopted: +the identity of age1/m);
  expect(await cli.must(["repository", "rebuild", "outlived"])).toMatch(/: 1 backup entered/);
  await cli.must(["host", "update", "db7", "--label", "may-decrypt=true"]);
  expect(await cli.must(["backup", "verify", lost, "--content"])).toContain(lost);
  const restore = ["restore", "create", "shop", "--backup", lost, "--to", "new", "--database", "shop"];
  await cli.must([...restore, "--as", "shop-opened"]);
  expect((await lab.server.sql("shop-opened", "select count(*) from sold")).trim()).toBe("500");
  const sealed = await lab.server.sql(
    "postgres",
    "select encode(sealed, 'escape') from secret where purpose = 'identity of repository outlived'",
  );
  expect(sealed).not.toContain("AGE-SECRET-KEY");
  const audited = JSON.stringify(await lab.server.sql("postgres", "select request from audit_record"));
  expect(audited + lab.logLines.join("")).not.toContain(identity);
});
