import { access, chmod, constants, mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { openInstallation } from "../tests/support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../tests/support/postgres-servers.ts";
import { findPrograms } from "../tests/support/programs.ts";
import { runProgram } from "../tests/support/run-program.ts";
import { shellWord } from "../cli/src/output/shell-word.ts";
import { showRecovery } from "./quickstart-physical.ts";

// The demonstration, from the installed tree. Every line that claims something is printed after it was checked.
const root = dirname(import.meta.dirname);
const startedAt = Number(process.argv[2] ?? Date.now() / 1000) * 1000;
const demoRows = { customers: 1_000, orders: 20_000, items: 60_000 };

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function claim(holds: boolean, text: string): void {
  if (!holds) throw new Error(`this did not hold: ${text}`);
  say(`  ✓ ${text}`);
}

/** Whether the database server's user can enter the clone; root's servers run as another user. */
async function isReachable(folder: string): Promise<boolean> {
  if (process.getuid?.() !== 0) return true;
  const { code } = await runProgram(
    "setpriv",
    ["--reuid=postgres", "--regid=postgres", "--init-groups", "test", "-x", folder],
    {
      env: process.env,
    },
  );
  return code === 0;
}

/** The newest PostgreSQL on this machine with incremental backups, which 17 is the first to have. */
async function findMajor(): Promise<number> {
  for (const major of [18, 17]) {
    const needed = ["postgres", "initdb", "psql", "pg_combinebackup"];
    const paths = needed.map((name) => `/usr/lib/postgresql/${major}/bin/${name}`);
    if ((await Promise.allSettled(paths.map((path) => access(path)))).every(({ status }) => status === "fulfilled"))
      return major;
  }
  throw new Error("no PostgreSQL 17 or 18 is in /usr/lib/postgresql");
}

const digestScript = Object.keys(demoRows)
  .map((table) => `select '${table}', count(*), md5(string_agg(md5(t::text), '' order by t::text)) from ${table} t;`)
  .join("\n");

/** One line a table: rows, and a digest over every row as text. */
async function digest(server: PostgresServer, database: string): Promise<string[]> {
  return (await server.sql(database, digestScript)).trim().split("\n");
}

const local = join(root, ".coppice/quickstart");
const folder = (await isReachable(root)) ? local : "/var/lib/coppice-quickstart";
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
await chmod(folder, 0o755);
await access(folder, constants.W_OK);
if (folder !== local) say(`work      ${folder}, since the user postgres cannot enter ${root}; removed at the end`);
process.env["TMPDIR"] = folder;

process.once("uncaughtException", (error) => {
  process.stderr.write(
    `✗ ${error.message}\n  next: npm run quickstart again; what could not be removed is in ${folder}\n`,
  );
  process.exit(1);
});
await using stack = new AsyncDisposableStack();
stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
const { coppice: program } = findPrograms();
const { stdout: version } = await runProgram(program, ["--version"], { env: process.env });
say(`programs  ${version.trim()}, from the package's tree build/tree`);

await mkdir(join(folder, "coppice"));
const cop = stack.use(await openInstallation({ folder: join(folder, "coppice") }));
say(`control   ${cop.address}, catalog in an embedded PostgreSQL 18`);
await cop.addAgent("db7");
await cop.addAgent("db8");
const { hosts = [] } = await cop.json<{ hosts?: { name: string; state: string }[] }>(["host", "list"]);
claim(
  hosts.length === 2 && hosts.every(({ state }) => state === "HOST_STATE_CONNECTED"),
  "2 agents, db7 and db8, enrolled by single-use tokens and connected over mutual TLS",
);

const server = stack.use(await openPostgresServer({ major: await findMajor(), settings: { summarize_wal: "on" } }));
await server.sql("postgres", "create role app login; create database shop owner app;");
await server.sql(
  "shop",
  `create table customers (id int primary key, name text not null);
   create table orders (id int primary key, customer int not null references customers, made timestamptz not null);
   create table items (id int primary key, order_id int not null references orders, sku text, price numeric(10,2), extra jsonb);
   create view turnover as select customer, sum(price) from orders join items on order_id = orders.id group by customer;
   insert into customers select i, 'customer ' || i from generate_series(1, ${demoRows.customers}) i;
   insert into orders select i, 1 + i % ${demoRows.customers}, now() - i * interval '1 minute' from generate_series(1, ${demoRows.orders}) i;
   insert into items select i, 1 + i % ${demoRows.orders}, md5(i::text), i % 1000 / 7.0, jsonb_build_object('n', i) from generate_series(1, ${demoRows.items}) i;
   alter table customers owner to app; alter table orders owner to app; alter table items owner to app;
   alter database shop set work_mem = '8MB'; revoke connect on database shop from public; grant connect on database shop to app;`,
);
const before = await digest(server, "shop");
const { stdout: serverVersion } = { stdout: await server.sql("postgres", "show server_version") };
const rows = Object.values(demoRows).reduce((sum, count) => sum + count, 0);
say(`cluster   PostgreSQL ${serverVersion.trim()} on port ${server.port}, database shop with ${rows} rows in 3 tables`);

/** Runs a command as a person would, shows it and what it says. */
async function show(args: readonly string[], input?: string): Promise<string> {
  say(`$ coppice ${args.map((arg) => (/^--[\w-]+$/.test(arg) ? arg : shellWord(arg))).join(" ")}`);
  const { code, stdout, stderr } = await cop.coppice(args, input === undefined ? {} : { input });
  // What is told on the way goes to standard error, the answer at the end to standard output.
  const said = `${stderr}${stdout}`.trimEnd();
  // Every event of the work has its line here, where no terminal lets one line change; the last ones tell enough.
  say(
    said
      .replaceAll(/^op_\w+ .*\n?/gm, "")
      .trimEnd()
      .replaceAll(/^/gm, "  "),
  );
  if (code !== 0) throw new Error(`coppice ${args[0]} ${args[1]} ended with ${code}`);
  return said;
}

await mkdir(join(folder, "backups"), { mode: 0o700 });
await show(["repository", "add", "main", `db7:${join(folder, "backups")}`, "--check"]);
await show(
  ["cluster", "add", "demo", "--host", "db7", "--endpoint", `127.0.0.1:${server.port}`, "--password-stdin"],
  server.password,
);
await show(["backup", "create", "demo"]);
const { backups = [] } = await cop.json<{
  backups?: { id: string; complete?: boolean; storedBytes: string; copies: { state: string }[] }[];
}>(["backup", "list"]);
const [backup] = backups;
if (!backup) throw new Error("the catalog lists no backup");
claim(
  backups.length === 1 && backup.complete === true && backup.copies[0]?.state === "COPY_STATE_STORED",
  `1 complete backup in the catalog, ${backup.storedBytes} bytes stored`,
);
await show(["backup", "verify", backup.id]);
await show(["restore", "create", "demo", "--database", "shop", "--as", "shop-copy"]);
const copy = await digest(server, "shop-copy");
claim(isDeepStrictEqual(copy, before), `shop-copy equals shop: ${rows} rows in 3 tables, compared row by row`);

await server.sql("shop", "delete from items where id % 2 = 0; drop view turnover;");
claim(
  !isDeepStrictEqual(await digest(server, "shop"), before),
  "an accident: half of the items deleted, a view dropped",
);
await show(["restore", "create", "demo", "--database", "shop", "--replace", "--yes"]);
claim(isDeepStrictEqual(await digest(server, "shop"), before), `shop is as it was: ${rows} rows, compared row by row`);
const kept = (
  await server.sql("postgres", "select datname from pg_database where datname like 'shop\\_before\\_%'")
).trim();
claim(kept !== "", `the damaged database is kept as ${kept}`);

// Encrypted: to an identity that stays outside of Coppice, and to one that the control plane lends to trusted hosts.
const kit = join(folder, "recovery.txt");
await runProgram("age-keygen", ["-o", kit], { env: process.env });
const recipient = (await runProgram("age-keygen", ["-y", kit], { env: process.env })).stdout.trim();
const { COPPICE_QUICKSTART_S3: bucket, COPPICE_QUICKSTART_S3_ENDPOINT: endpoint } = process.env;
const vault = join(folder, "vault");
if (!bucket) await mkdir(vault, { mode: 0o700 });
// Keys of S3 stay in the environment, and out of the programs' arguments.
if (bucket) {
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) {
    const value = process.env[name];
    if (value !== undefined) cop.env[name] = value;
  }
}
const place = bucket
  ? [bucket, ...(endpoint ? ["--endpoint", endpoint] : []), "--credentials", "env"]
  : [`db7:${vault}`];
const proof = ["--recovery-recipient", recipient, "--recovery-identity", kit];
await show(["repository", "add", "vault", ...place, ...proof, "--check"]);
await show(["host", "update", "db7", "--label", "may-decrypt=true"]);
await show(["backup", "create", "demo", "--to", "vault"]);
const sealed = await cop.json<{ backups?: { id: string }[] }>(["backup", "list"]);
const encrypted = sealed.backups?.[0]?.id ?? "";
await show(["backup", "verify", encrypted, "--content", "--host", "db7"]);
await show(["restore", "create", "demo", "--backup", encrypted, "--database", "shop", "--as", "shop-from-vault"]);
claim(
  isDeepStrictEqual(await digest(server, "shop-from-vault"), before),
  `shop-from-vault, out of ${bucket ?? "the encrypted folder"}, equals shop: ${rows} rows, compared row by row`,
);
if (!bucket) {
  const archives = (await readdir(vault, { recursive: true })).filter((name) =>
    /\/db\/\d+\.dump\.zst\.age\.\d+$/.test(name),
  );
  const script = 'for f; do age -d -i "$0" "$f" | zstd -dcq | head -c 5; echo; done';
  const opened = await runProgram("bash", ["-c", script, kit, ...archives.map((name) => join(vault, name))], {
    env: process.env,
  });
  const heads = opened.stdout.trim().split("\n");
  claim(
    heads.length > 0 && heads.every((head) => head === "PGDMP"),
    `${heads.length} archives open with the recovery identity alone, by age and zstd`,
  );
} else {
  say("          on S3 the objects stay where they are: delete them with the bucket's own tools, or keep them");
}

// The whole cluster byte by byte, its WAL, and a second server as the first one was a second before an accident.
{
  await using _recovered = await showRecovery({
    cop,
    server,
    folder,
    show,
    claim,
    digest: (sql) => sql("shop", digestScript),
  });
}

const refused = await cop.coppice(["repository", "check", "main", "--host", "db8"]);
say("$ coppice repository check main --host db8");
say(`${refused.stdout}${refused.stderr}`.trimEnd().replaceAll(/^/gm, "  "));
claim(
  refused.code === 4 && refused.stderr.includes("next:"),
  "the folder on db7 is refused from db8, and the refusal says what to do",
);
await show(["status"]);
const seconds = Math.round((Date.now() - startedAt) / 1000);
await stack.disposeAsync();
say(`done      every claim above was checked; ${seconds} s in all. Next: README.md, "Five minutes"`);
