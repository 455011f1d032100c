// A cluster of Debian's layout, its configuration in /etc/postgresql, backed up, restored where nothing of Debian's is, and
// made a cluster of Debian's again under another name. What is made here is dropped again.
import { randomBytes } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { freePort } from "../support/free-port.ts";
import { openPhysicalLab, physicalContent, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import type { PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const major = 17;
const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" };
const secret = `only-in-the-source-${randomBytes(8).toString("hex")}`;
/** Debian's own tools need root. */
const isRoot = process.getuid?.() === 0;

async function debian(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runProgram(program, args, { env });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr || stdout}`);
  return stdout.trim();
}

const newName = () => `coppice_test_${process.pid}_${randomBytes(3).toString("hex")}`;
const confOf = (name: string) => join("/etc/postgresql", String(major), name);
const dataOf = (name: string) => join("/var/lib/postgresql", String(major), name);
const control = (name: string, action: string, ...more: string[]) =>
  debian("pg_ctlcluster", "--skip-systemctl-redirect", String(major), name, action, ...more);

/** Drops a cluster of Debian's, whatever state it is in. */
async function drop(name: string): Promise<void> {
  await control(name, "stop", "-m", "immediate").catch(() => "");
  await debian("pg_dropcluster", String(major), name).catch(() => "");
  for (const left of [confOf(name), dataOf(name)]) await rm(left, { recursive: true, force: true });
}

/** A running cluster of Debian's as tests know servers. */
async function openDebianServer(name: string, port: number): Promise<PostgresServer> {
  const [uid, gid] = await Promise.all(["-u", "-g"].map(async (flag) => Number(await debian("id", flag, "postgres"))));
  const owner = { name: "postgres", uid: uid ?? 0, gid: gid ?? 0 };
  const binDir = `/usr/lib/postgresql/${major}/bin`;
  const password = randomBytes(12).toString("hex");
  const asOwner = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--init-groups", join(binDir, "psql")];
  const sql = (database: string, text: string) =>
    debian("setpriv", ...asOwner, "-XqAt", "-v", "ON_ERROR_STOP=1", "-p", String(port), "-d", database, "-c", text);
  await sql("postgres", `alter role postgres password '${password}'`);
  return {
    major,
    port,
    socketDir: "/var/run/postgresql",
    dataDir: dataOf(name),
    logFile: `/var/log/postgresql/postgresql-${major}-${name}.log`,
    superuser: "postgres",
    password,
    binDir,
    owner,
    sql,
    start: async () => void (await control(name, "start")),
    stop: async () => void (await control(name, "stop", "-m", "fast")),
    [Symbol.asyncDispose]: () => drop(name),
  };
}

/** Every text below a folder that is configuration. */
async function configurationIn(folder: string): Promise<string> {
  const names = await readdir(folder, { recursive: true });
  const files = names.filter((name) => /\.(conf|before-restore)$/.test(name) && !name.startsWith("base/"));
  return (await Promise.all(files.map((name) => readFile(join(folder, name), "utf8")))).join("\n");
}

describe.each(isRoot ? [major] : [])("a cluster of Debian's, of PostgreSQL %i", () => {
  const stack = new AsyncDisposableStack();
  const [name, other] = [newName(), newName()];
  let server: PostgresServer;
  let lab: PhysicalLab;
  let restoring: RestoreLab;
  let folder: string;
  const facts = "select string_agg(t::text, ',' order by t) from t";

  beforeAll(async () => {
    const port = await freePort();
    stack.defer(() => drop(other));
    stack.defer(() => drop(name));
    await debian("pg_createcluster", String(major), name, "--port", String(port), "--start-conf", "manual");
    const more = `work_mem = '7MB'\nprimary_conninfo = 'host=elsewhere password=${secret}'\n`;
    await writeFile(join(confOf(name), "conf.d/own.conf"), more, { mode: 0o644 });
    await control(name, "start");
    server = await openDebianServer(name, port);
    lab = stack.use(await openPhysicalLab(server));
    restoring = stack.use(await openRestoreLab(server, lab.repository));
    folder = await mkdtemp(join(tmpdir(), "coppice-debian-"));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    await server.sql("postgres", "create table t as select generate_series(1, 100) as n");
  });
  afterAll(() => stack.disposeAsync());

  test("is restored on a host without Debian's layout, with its configuration, and made one of Debian's again by its own tools", async () => {
    const backup = lab.command();
    const content = physicalContent((await lab.take(backup)).manifest);
    expect(content.configFiles.map(({ path }) => path)).toEqual(
      expect.arrayContaining(
        ["postgresql.conf", "pg_hba.conf", "conf.d/own.conf"].map((file) => join(confOf(name), file)),
      ),
    );
    expect((await lab.verify(backup.backup)).failure).toBeUndefined();
    const before = await server.sql("postgres", facts);
    await server.sql("postgres", "insert into t values (1000)");
    const after = await server.sql("postgres", facts);
    // The host is another one: nothing of the source is left, but for the WAL that was archived.
    await server.stop("fast");
    const archive = join(folder, "wal");
    await cp(join(dataOf(name), "pg_wal"), archive, { recursive: true });
    await debian("chmod", "-R", "go+rX", folder);

    const plain = await restoring.command("plain", [backup.backup]);
    const restored = await restoring.restore(plain);
    expect(restored).toMatchObject({ started: true, warnings: [staysQuiet] });
    expect(await restoring.sql(plain, facts)).toBe(before);
    const shown =
      "select string_agg(current_setting(n), '|') from unnest(array['config_file', 'hba_file', 'data_directory', 'work_mem', 'primary_conninfo', 'archive_mode']) n";
    const { dataDirectory } = plain;
    expect(await restoring.sql(plain, shown)).toBe(
      [`${dataDirectory}/postgresql.conf`, `${dataDirectory}/pg_hba.conf`, dataDirectory, "7MB", "", "off"].join("|"),
    );
    expect(await configurationIn(dataDirectory)).not.toContain(secret);
    await restoring.stop(plain);

    // A cluster of Debian's under another name, to its latest: recovered in Debian's place, its configuration moved by
    // Debian's tool.
    const command = Object.assign(await restoring.command("unused", [backup.backup]), { dataDirectory: dataOf(other) });
    const restoreCommand = `cp ${archive}/%f %p`;
    expect(await restoring.restore(command, { restoreCommand })).toMatchObject({ started: true, timeline: 2 });
    await restoring.stop(command, "fast");
    // The same one: the restored server's settings name it, and win over Debian's.
    const { port } = command;
    await debian("pg_createcluster", String(major), other, "--port", String(port), "--start-conf", "manual");
    const move = 'find "$0"/conf.d -name "*.conf" -exec mv -t "$1"/conf.d {} +';
    await debian("sh", "-c", move, dataOf(other), confOf(other));
    await control(other, "start");
    const ask = (text: string) =>
      debian(
        "setpriv",
        `--reuid=${server.owner.uid}`,
        `--regid=${server.owner.gid}`,
        "--init-groups",
        "psql",
        "-XqAt",
        "-p",
        String(port),
        "-d",
        "postgres",
        "-c",
        text,
      );
    await expect.poll(() => ask("select pg_is_in_recovery()"), { timeout: 60_000 }).toBe("f");
    expect(await ask(facts)).toBe(after);
    expect(await ask("show restore_command")).not.toContain(archive);
    expect(await ask(shown)).toBe(
      [`${confOf(other)}/postgresql.conf`, `${confOf(other)}/pg_hba.conf`, dataOf(other), "7MB", "", "off"].join("|"),
    );
    expect(await ask("show cluster_name")).toBe(`${major}/${other}`);
    const configuration = (await configurationIn(confOf(other))) + (await configurationIn(dataOf(other)));
    expect(configuration).not.toContain(secret);
    expect(await debian("pg_lsclusters", "--no-header")).toContain(dataOf(other));
  });
});
