import { chmod, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findBlocks } from "../support/documents/blocks.ts";
import { runBlocks } from "../support/documents/session.ts";
import { freePort } from "../support/free-port.ts";
import { openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";

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

/** Runs the blocks of a document that are marked `sh test`; fails with the command and its line in the document. */
async function runDocument(document: string, env: NodeJS.ProcessEnv): Promise<string> {
  const blocks = findBlocks(await readFile(join(root, document), "utf8")).filter(
    ({ language, marks }) => language === "sh" && marks[0] === "test",
  );
  expect(blocks.length).toBeGreaterThan(0);
  const bin = [dirname(findPrograms().coppice), server.binDir, "/usr/local/bin", "/usr/bin", "/bin"];
  const base = {
    PATH: bin.join(":"),
    HOME: join(folder, "home"),
    LANG: "C.UTF-8",
    PGHOST: "127.0.0.1",
    PGPORT: String(server.port),
    PGUSER: server.superuser,
    PGPASSWORD: server.password,
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

  test("links between the documents lead somewhere", async () => {
    const names = [
      "README.md",
      "CONTRIBUTING.md",
      ...(await readdir(join(root, "docs"))).map((name) => `docs/${name}`),
    ];
    const broken: string[] = [];
    for (const name of names) {
      const text = await readFile(join(root, name), "utf8");
      for (const [, target = ""] of text.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
        const found = /^https?:/.test(target) || (await readFile(join(root, dirname(name), target)).catch(() => false));
        if (found === false) broken.push(`${name}: ${target}`);
      }
    }
    expect(broken).toEqual([]);
  });
});
