import { chmod, chown, mkdir, mkdtemp, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findBlocks } from "../support/documents/blocks.ts";
import { runBlocks, type SessionEnd } from "../support/documents/session.ts";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const root = join(import.meta.dirname, "../..");
const document = "docs/rpc.md";
const stack = new AsyncDisposableStack();
let cop: Installation;
let repository: string;
let token: string;
let server: PostgresServer;

beforeAll(async () => {
  cop = stack.use(await openInstallation());
  [server] = await Promise.all([openPostgresServer({ major: 15 }), cop.addAgent("db7")]);
  stack.use(server);
  repository = join(cop.folder, "backups");
  await mkdir(repository);
  await cop.must(["repository", "add", "main", `db7:${repository}`]);
  const endpoint = ["--endpoint", `127.0.0.1:${server.port}`, "--password-stdin"];
  await cop.must(["cluster", "add", "demo", "--host", "db7", ...endpoint], { input: server.password });
  token = (await cop.json<{ value: string }>(["token", "create", "nightly", "--role", "operator"])).value;
});
afterAll(() => stack.disposeAsync());

/** Runs a client as the document has it: its blocks with those of the first section, then `command`. */
async function runClient(section: string, command: string, asWhom = token): Promise<SessionEnd> {
  const folder = await mkdtemp(join(cop.folder, "client-"));
  await chmod(folder, 0o755);
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  const wanted = ["Address, certificate, token", section];
  const text = await readFile(join(root, document), "utf8");
  const blocks = findBlocks(text).filter(({ marks, section }) => marks[0] === "client" && wanted.includes(section));
  for (const { marks, text } of blocks) {
    if (marks[1] !== undefined) await writeFile(join(folder, marks[1]), text);
  }
  const last = { language: "sh", marks: [], section, line: text.split("\n").length + 1, text: command };
  const shell = blocks.filter(({ language, marks }) => language === "sh" && marks.length === 1);
  const bin = join(root, "node_modules/.bin");
  const env = {
    PATH: `${bin}:/usr/local/bin:/usr/bin:/bin`,
    HOME: join(cop.folder, "home"),
    LANG: "C.UTF-8",
    BUF_CACHE_DIR: join(cop.folder, "buf"),
    COPPICE_ADDRESS: cop.address,
    COPPICE_CA_FINGERPRINT: cop.caFingerprint,
    COPPICE_TOKEN: asWhom,
    COPPICE_SOURCE: root,
  };
  return runBlocks(document, [...shell, last], { folder, env, timeoutMs: 60_000 });
}

test.each([
  ["curl", "bash backup.sh"],
  ["TypeScript", "node backup.ts"],
  ["Python", "/usr/bin/python3 backup.py"],
])(
  "the client in %s takes a backup and waits for it, and explains a refused call and a failed backup",
  async (section, program) => {
    const command = [
      `${program} demo`,
      `${program} nobody 2>refused && exit 9; cat refused`,
      `mv "${repository}" "${repository}-away"; trap 'mv "${repository}-away" "${repository}"' EXIT`,
      `${program} demo 2>failed && exit 9; cat failed`,
    ];
    const { code, stdout, stderr } = await runClient(section, command.join("\n"));
    expect(stderr, stdout).toBe("");
    expect(code).toBe(0);
    const [done = "", ...failures] = stdout.trimEnd().split("\n");
    const made = /^✓ (bkp_[0-9a-z]{26}): 2 databases, \d+ bytes stored$/.exec(done)?.[1] ?? done;
    expect(await cop.must(["backup", "get", made])).toContain("state:     good");
    expect(failures).toEqual([
      "✗ CLUSTER_NOT_FOUND: there is no cluster nobody",
      "  next: list the clusters with `coppice cluster list`",
      expect.stringMatching(/^✗ REPOSITORY_UNREACHABLE: .*\/backups/),
      expect.stringMatching(/^  next: /),
    ]);
  },
);

test("the client of physical backups archives WAL, takes a full backup, and makes a second server of it", async () => {
  await cop.must(["cluster", "check", "demo"]);
  const parent = join(cop.folder, "restored");
  await mkdir(parent);
  if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
  const directory = join(parent, "data");
  const port = await freePort();
  try {
    const section = "Physical backups, WAL, points in time";
    const command = `bash physical.sh demo db7 "${directory}" ${port}\nbash physical.sh nobody db7 /srv/x 1 2>refused && exit 9; cat refused`;
    const { code, stdout, stderr } = await runClient(section, command, cop.adminToken);
    expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(
      /^✓ WAL is stored up to [\dA-F/]+\n✓ bkp_[0-9a-z]{26} holds \d+ bytes in \d+\n {2}CHECK_STATUS_/,
    );
    expect(stdout).toContain(`✓ ${directory} has recovered to `);
    expect(stdout).toContain("✗ CLUSTER_NOT_FOUND: there is no cluster nobody\n  next: ");
    expect(await ask(server, port, "postgres", "select pg_is_in_recovery()")).toBe("f");
  } finally {
    await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
  }
});
