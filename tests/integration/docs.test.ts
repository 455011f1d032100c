import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findBlocks } from "../support/documents/blocks.ts";
import { runBlocks } from "../support/documents/session.ts";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { asServer } from "../support/scenarios/restored-server.ts";
import { waitUntilKnown } from "../support/wal/known-time.ts";

const root = join(import.meta.dirname, "../..");
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-docs-"));
  stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // The server's user passes through.
  await chmod(folder, 0o755);
  await mkdir(join(folder, "home"));
  server = stack.use(await openPostgresServer({ major: 15 }));
});
afterAll(() => stack.disposeAsync());

/**
 * Runs the blocks of a document that are marked `sh test`, with psql on the server; fails with the command and its line in
 * the document.
 */
async function runDocument(document: string, env: NodeJS.ProcessEnv, on = server): Promise<string> {
  const blocks = findBlocks(await readFile(join(root, document), "utf8")).filter(
    ({ language, marks }) => language === "sh" && marks[0] === "test",
  );
  expect(blocks.length).toBeGreaterThan(0);
  const bin = [dirname(findPrograms().coppice), on.binDir, "/usr/local/bin", "/usr/bin", "/bin"];
  const base = {
    PATH: bin.join(":"),
    HOME: join(folder, "home"),
    LANG: "C.UTF-8",
    PGHOST: "127.0.0.1",
    PGPORT: String(on.port),
    PGUSER: on.superuser,
    PGPASSWORD: on.password,
  };
  const { code, stdout, stderr } = await runBlocks(document, blocks, {
    folder,
    env: { ...base, ...env },
    timeoutMs: 110_000,
  });
  if (code !== 0) throw new Error(`${document} does not run (${code}):\n${stdout}\n${stderr}`);
  return stdout;
}

describe("the documents", { timeout: 120_000 }, () => {
  test("README.md: every command of the tour works, from an empty folder to a restored database", async () => {
    const said = await runDocument("README.md", { TOUR: join(folder, "tour"), PORT: String(await freePort()) });
    expect(said).toContain("✓ shop is restored in demo");
    expect(said.trimEnd().split("\n").at(-1)).toBe("50000");
  });

  test("docs/operations.md and docs/repositories.md: every command works on a running installation", async () => {
    await using cop = await openInstallation();
    await cop.addAgent("db7");
    await mkdir(join(cop.folder, "backups"));
    await cop.must(["repository", "add", "main", `db7:${join(cop.folder, "backups")}`]);
    const endpoint = ["--endpoint", `127.0.0.1:${server.port}`, "--password-stdin"];
    await cop.must(["cluster", "add", "demo", "--host", "db7", ...endpoint], { input: server.password });
    const { COPPICE_ADDRESS, COPPICE_TOKEN, COPPICE_CA_FINGERPRINT } = cop.env;
    const env = { COPPICE_ADDRESS, COPPICE_TOKEN, COPPICE_CA_FINGERPRINT };
    expect(await runDocument("docs/operations.md", env)).toMatch(/^✓ bkp_\w+ .*, checked$/m);
    const said = await runDocument("docs/repositories.md", env);
    expect(said).toMatch(/^identity: +kept sealed, for hosts labelled may-decrypt$/m);
    expect(said).toMatch(/^✓ the catalog has what repository main holds: 0 backups entered, \d+ known before/m);
  });

  test("who rebuilds with an identity labels the host first, that it may read the histories of timelines", async () => {
    for (const name of ["docs/worst-night.md", "docs/repositories.md"]) {
      // Within a list, too.
      const blocks = (await readFile(join(root, name), "utf8")).split("```");
      const rebuilds = blocks.filter((text) => text.includes(" --identity ") && text.includes("repository rebuild"));
      expect(rebuilds).toEqual([expect.stringMatching(/may-decrypt=true[^]*repository rebuild/)]);
    }
  });

  test("links between the documents lead somewhere, to a heading that is there", async () => {
    const names = [
      "README.md",
      "CONTRIBUTING.md",
      ...(await readdir(join(root, "docs"))).map((name) => `docs/${name}`),
    ];
    const broken: string[] = [];
    for (const name of names) {
      const text = await readFile(join(root, name), "utf8");
      for (const [, target = "", anchor] of text.matchAll(/\]\(([^)#\s]*)(?:#([^)]*))?\)/g)) {
        if (/^https?:/.test(target)) continue;
        const path = target === "" ? join(root, name) : join(root, dirname(name), target);
        const found = await readFile(path, "utf8").catch(() => undefined);
        if (found === undefined || (anchor !== undefined && !anchorsOf(found).has(anchor)))
          broken.push(`${name}: ${target}${anchor === undefined ? "" : `#${anchor}`}`);
      }
    }
    expect(broken).toEqual([]);
  });
});

describe("the guides of physical backups", { timeout: 120_000 }, () => {
  const owned = new AsyncDisposableStack();
  let cop: Installation;
  let source: PostgresServer;
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    const settings = { summarize_wal: "on", wal_log_hints: "on" };
    [cop, source] = await Promise.all([openInstallation(), openPostgresServer({ major: 18, settings })]);
    owned.use(cop);
    owned.use(source);
    await cop.addAgent("db7");
    await mkdir(join(cop.folder, "backups"));
    await cop.must(["repository", "add", "main", `db7:${join(cop.folder, "backups")}`]);
    await source.sql("postgres", "create database orders");
    await source.sql("orders", "create table items as select i as id from generate_series(1, 59999) i");
    const endpoint = ["--endpoint", `127.0.0.1:${source.port}`, "--password-stdin"];
    await cop.must(["cluster", "add", "shop", "--host", "db7", ...endpoint], { input: source.password });
    const { COPPICE_ADDRESS, COPPICE_TOKEN, COPPICE_CA_FINGERPRINT } = cop.env;
    env = { COPPICE_ADDRESS, COPPICE_TOKEN, COPPICE_CA_FINGERPRINT };
  });
  afterAll(() => owned.disposeAsync());

  test("docs/wal.md: WAL of a cluster is archived by one command", async () => {
    expect(await runDocument("docs/wal.md", env, source)).toMatch(/^archived: +stream, into main$/m);
  });

  test("docs/physical.md: a full backup, its verification, and an incremental one", async () => {
    expect(await runDocument("docs/physical.md", env, source)).toMatch(/^✓ bkp_\w+ {2}incremental, .*, checked$/m);
  });

  test("docs/point-in-time.md: a dropped table is there again, on a second server", async () => {
    await source.sql("orders", "insert into items values (60000)");
    const now = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'";
    await source.sql("orders", "select pg_sleep(0.5)");
    const BEFORE = await source.sql("orders", now);
    await source.sql("orders", "select pg_sleep(0.5)");
    await source.sql("orders", "drop table items; select pg_switch_wal()");
    await waitUntilKnown(cop, "shop", BEFORE);
    const parent = join(cop.folder, "restored");
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, source.owner.uid, source.owner.gid);
    const EMPTY = join(parent, "data");
    try {
      const place = { BEFORE, EMPTY, PORT: String(await freePort()) };
      const said = await runDocument("docs/point-in-time.md", { ...env, ...place }, source);
      expect(said).toContain(`✓ shop is restored in db7:${EMPTY}: `);
      expect(said.trimEnd().split("\n").at(-1)).toBe("60000");
    } finally {
      await asServer(source, "pg_ctl", ["-D", EMPTY, "-m", "immediate", "-w", "stop"]);
    }
  });
});

/** The headings of a document as links name them. */
function anchorsOf(markdown: string): Set<string> {
  const headings = markdown.matchAll(/^#+ (.+)$/gm);
  return new Set(
    [...headings].map(([, text = ""]) =>
      text
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
}
