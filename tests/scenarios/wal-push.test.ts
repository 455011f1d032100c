// Archiving by archive_command as a person sets it up: what is done live, what waits for a restart, and how it ends.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

let installation: Installation;
let server: PostgresServer;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  installation = stack.use(await openInstallation());
  server = stack.use(await openPostgresServer({ major: 18 }));
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`, "--check"]);
  const endpoint = `127.0.0.1:${server.port}`;
  await installation.must(["cluster", "add", "shop", "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
    input: server.password,
  });
  await installation.must(["cluster", "check", "shop"]);
});
afterAll(() => stack.disposeAsync());

interface Status {
  readonly storedLsn: string;
  readonly archiver?: { readonly isCommandSet?: boolean; readonly isHandingOver?: boolean };
}

test(
  "WAL goes on being received until archive_mode is on, and from then on is handed over",
  { timeout: 180_000 },
  async () => {
    const status = () => installation.json<Status>(["wal", "status", "shop"]);
    const stored = async (lsn: string) => {
      const isThere = async () => {
        const { storedLsn } = await status();
        return storedLsn !== "" && (await server.sql("postgres", `select '${storedLsn}'::pg_lsn >= '${lsn}'`)) === "t";
      };
      await waitFor(`WAL is stored up to ${lsn}`, isThere, 60_000);
    };
    await installation.must(["wal", "setup", "shop", "--max-age", "2s"]);
    await stored(await server.sql("postgres", "select pg_switch_wal()"));
    const plan = await installation.must(["wal", "setup", "shop", "--mode", "push", "--dry-run"]);
    expect(plan).toMatch(
      /would be handed by archive_command to the agent of db7, and stored in main; nothing was done/,
    );
    const setUp = await installation.must(["wal", "setup", "shop", "--mode", "push", "--max-age", "2s"]);
    expect(setUp).toContain("archive_mode is off, until then it is received by the slot, as before");
    expect(setUp).toContain("ALTER SYSTEM SET archive_mode = on;");
    await server.sql("postgres", "create table orders as select i from generate_series(1, 1000) i");
    await stored(await server.sql("postgres", "select pg_switch_wal()"));
    await server.sql("postgres", "alter system set archive_mode = on");
    await server.stop();
    await server.start();
    await waitFor(
      "archive_command hands WAL over alone",
      async () => {
        const { archiver } = await status();
        return archiver?.isCommandSet === true && archiver.isHandingOver !== true;
      },
      60_000,
    );
    await waitFor("the slot is dropped", async () => {
      return (await server.sql("postgres", "select count(*) from pg_replication_slots")) === "0";
    });
    // Less than a segment is handed over after the wanted time.
    await server.sql("postgres", "insert into orders values (0)");
    await stored(await server.sql("postgres", "select pg_current_wal_lsn()"));
    const said = await installation.must(["wal", "status", "shop"]);
    expect(said).toMatch(/^archived: +push, into main$/m);
    expect(said).toMatch(/^archiver: +archive_mode on, WAL is handed to the agent$/m);
    expect(said).toMatch(/^waiting: +\d+ files$/m);
    expect(said).not.toMatch(/^gap/m);
    const again = await installation.must(["wal", "setup", "shop", "--mode", "push", "--max-age", "2s"]);
    expect(again).toMatch(/^✓ WAL of shop is handed by archive_command to the agent of db7, and stored in main$/m);
    // A backup leaves its WAL to it.
    const taken = await installation.must(["backup", "create", "shop", "--kind", "full"]);
    expect(taken).toMatch(/, in the archive, consistent at its end$/m);
    expect(await installation.must(["backup", "verify", taken.slice(2, 32)])).toMatch(/every digest matches/);
    const ended = await installation.must(["wal", "setup", "shop", "--disable", "--yes"]);
    expect(ended).toContain("! the agent of db7 gives archive_command back, and drops a slot that is left, once");
    expect(ended).toMatch(/^ {2}SELECT pg_drop_replication_slot\(slot_name\) .* = 'coppice_cls_\w+' AND NOT active;$/m);
    await waitFor("archive_command is given back", async () => {
      return (await server.sql("postgres", "show archive_command")) === "true";
    });
  },
);
