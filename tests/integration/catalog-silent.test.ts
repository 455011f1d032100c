import { chown, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { openLog } from "@coppice/proto/kit/log";
import { sql } from "drizzle-orm";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import { expect, test } from "vitest";
import { openCatalog } from "../../control-plane/src/catalog/catalog.ts";
import { issueServerCertificate, makeRoot } from "../../control-plane/src/fleet/certificates.ts";
import { openTestControlPlane } from "../support/control-plane.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openTcpProxy } from "../support/replication/tcp-proxy.ts";
import { runProgram } from "../support/run-program.ts";

const { signal } = new AbortController();
const silence = "does not answer on open connections";

function urlOf({ superuser, password }: PostgresServer, port: number): string {
  return `postgres://${superuser}:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres`;
}

test("a catalog whose open connections lead nowhere any more is told of, and soon answers by others", async () => {
  await using server = await openPostgresServer({ major: 15 });
  await using proxy = await openTcpProxy(() => server.port);
  await using plane = await openTestControlPlane(
    { COPPICE_DATABASE_URL: urlOf(server, proxy.port) },
    { catalogSilentMs: 9000 },
  );
  const ready = async () =>
    (await runProgram("curl", ["-ksm8", `${plane.app.address}/readyz`], { env: process.env })).stdout;
  const list = () => plane.client(ClusterService).listClusters({});
  await Promise.all(Array.from({ length: 12 }, list));
  expect(await ready()).toBe("ready\n");
  proxy.muteOpen();
  const unanswered = Promise.allSettled(Array.from({ length: 12 }, list));
  expect(await ready()).toBe("not ready: the catalog's database has not answered for 5 s\n");
  expect((await unanswered).map(({ status }) => status)).toContain("rejected");
  await expect.poll(ready, { timeout: 10_000 }).toBe("ready\n");
  expect((await list()).clusters).toEqual([]);
  expect((await plane.client(HostService).createEnrolment({ hostName: "db7" })).hostName).toBe("db7");
  const told = plane.logLines.filter((line) => line.includes(silence));
  expect(told.map((line) => (JSON.parse(line) as { address: string }).address)).toEqual([`127.0.0.1:${proxy.port}`]);
});

test("over TLS, and while nothing is asked, lost connections are found, too, and notices are heard again", async () => {
  await using server = await openPostgresServer({ major: 15 });
  await speakTls(server);
  await using proxy = await openTcpProxy(() => server.port);
  const url = `${urlOf(server, proxy.port)}?sslmode=require`;
  const lines: string[] = [];
  const log = openLog({ level: "warn", name: "test", to: { write: (line) => void lines.push(line) } });
  await using catalog = await openCatalog({ url, signal, log, silentMs: 1500 });
  const heard: string[] = [];
  await using _listening = await catalog.listen("coppice_host", (payload) => void heard.push(payload));
  const [is] = await catalog.db.execute<{ ssl: boolean }>(
    sql`select ssl from pg_stat_ssl where pid = pg_backend_pid()`,
  );
  expect(is).toEqual({ ssl: true });
  // Idle for longer than that: nobody takes it for lost.
  await delay(3000);
  expect(lines).toEqual([]);
  proxy.muteOpen();
  const work = catalog.transaction(async (tx) => void (await tx.execute(sql`select 1`)));
  await expect(work).rejects.toMatchObject({ reason: "CATALOG_UNREACHABLE" });
  await catalog.checkReachable();
  const hear = async () => {
    await catalog.db.execute(sql`select pg_notify('coppice_host', 'hst_1')`);
    return heard.length > 0;
  };
  await expect.poll(hear, { timeout: 10_000 }).toBe(true);
  expect(lines.filter((line) => line.includes(silence))).toHaveLength(1);
});

test("what waits for a lock ends, says so, and fills no more of the server's connections with each new try", async () => {
  await using server = await openPostgresServer({ major: 15 });
  const lines: string[] = [];
  const log = openLog({ level: "warn", name: "test", to: { write: (line) => void lines.push(line) } });
  const url = urlOf(server, server.port);
  await using catalog = await openCatalog({ url, signal, log, silentMs: 1500 });
  const lock = server.sql("postgres", "begin; lock table host; select pg_sleep(60)");
  const released = lock.catch(String);
  const locking = "from pg_locks where mode = 'AccessExclusiveLock'";
  await expect.poll(() => server.sql("postgres", `select count(*) ${locking}`)).toBe("1");
  const ask = () => catalog.transaction((tx) => tx.execute(sql`table host`));
  const hint = expect.stringContaining("a lock that another session holds") as string;
  const refuse = () => expect(ask()).rejects.toMatchObject({ reason: "CATALOG_UNREACHABLE", hint });
  for (let turn = 0; turn < 3; turn++) await Promise.all(Array.from({ length: 12 }, refuse));
  const waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
  expect(await server.sql("postgres", waiting)).toBe("0");
  expect(lines).toEqual([]);
  await server.sql("postgres", `select pg_terminate_backend(pid) ${locking}`);
  expect(await released).toContain("terminating connection");
  expect(await ask()).toEqual([]);
});

test("a connection that the server ends in a transaction ends that, and nothing else", async () => {
  await using server = await openPostgresServer({ major: 15 });
  await using catalog = await openCatalog({ url: urlOf(server, server.port), signal });
  const ended = catalog.transaction(async (tx) => {
    await tx.execute(sql`select pg_terminate_backend(pg_backend_pid()), pg_sleep(9)`);
  });
  await expect(ended).rejects.toMatchObject({ reason: "CATALOG_UNREACHABLE" });
  const numbers = Array.from({ length: 30 }, (_, number) => number);
  const ask = async () => {
    const rows = await Promise.all(numbers.map((number) => catalog.db.execute(sql`select ${number}::int as number`)));
    return rows.map(([row]) => row);
  };
  // The driver may tell the first who asks next of the same end.
  await expect.poll(() => ask().catch(String)).toEqual(numbers.map((number) => ({ number })));
});

async function speakTls({ dataDir, owner, sql: run }: PostgresServer): Promise<void> {
  const root = await makeRoot(new Date());
  const { certificateChainPem, privateKeyPem } = await issueServerCertificate(root, ["127.0.0.1"], new Date());
  for (const [name, pem] of [
    ["server.crt", certificateChainPem],
    ["server.key", privateKeyPem],
  ] as const) {
    await writeFile(join(dataDir, name), pem, { mode: 0o600 });
    await chown(join(dataDir, name), owner.uid, owner.gid);
  }
  await run("postgres", "alter system set ssl = on; select pg_reload_conf();");
}
