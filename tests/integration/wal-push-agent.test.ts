// Archiving by archive_command through the real agent, which is killed while a queue drains.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { expect, test } from "vitest";
import { makeTestAuthority } from "../support/agent-authority.ts";
import { type ServedSession, serveAgentService } from "../support/agent-service.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { expectSame, patient, writeSegments } from "../support/wal/push-lab.ts";

const main = fileURLToPath(new URL("../../agent/src/main.ts", import.meta.url));
const size = 16n << 20n;
const queued = 12;

const reportsOf = (session: ServedSession | undefined): WalReport[] =>
  (session?.received ?? []).flatMap(({ message }) => (message.case === "walReport" ? [message.value] : []));

test("an agent that is killed again and again drains the server's queue, and nothing is lost or stored twice", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "coppice-agent-push-"));
  stack.defer(() => rm(folder, { recursive: true }));
  await chmod(folder, 0o711);
  const server = stack.use(
    await openPostgresServer({ major: 18, settings: { archive_mode: "on", wal_keep_size: "2GB" } }),
  );
  const lab = stack.use(await openArchiveLab(server));
  if (lab.archive.settings) lab.archive.settings.mode = WalMode.PUSH;
  const end = await writeSegments(server, queued);
  const service = stack.use(await serveAgentService(await makeTestAuthority(), { heartbeatMs: 20_000 }));
  const start = (...args: string[]) => {
    const child = spawn(process.execPath, [main, ...args, "--data-dir", folder], {
      stdio: ["pipe", "ignore", "inherit"],
      env: { PATH: process.env["PATH"], COPPICE_AGENT_LOG_LEVEL: "error" },
    });
    const exit = once(child, "exit");
    stack.defer(async () => {
      child.kill("SIGKILL");
      await exit;
    });
    return { child, exit };
  };
  const enrolment = start("enroll", "-");
  enrolment.child.stdin?.end(service.token);
  expect(await enrolment.exit).toEqual([0, null]);
  let agent = start("run");
  await expect.poll(() => service.sessions[0]?.received[0]?.message.case, patient).toBe("hello");
  const entry = {
    id: "wal",
    secrets: [{ id: "sec_password", value: server.password }],
    desired: { case: "walArchive" as const, value: lab.archive },
  };
  service.sessions[0]?.send({ case: "desiredState", value: { revision: 4n, last: true, entries: [entry] } });
  // A server that was refused three times offers nothing for a minute, unless there is more.
  const offerMore = "select pg_switch_wal() from pg_logical_emit_message(true, 'x', 'x')";
  const count = async (sql: string) => {
    await server.sql("postgres", offerMore);
    return Number(await server.sql("postgres", sql));
  };
  const seldom = { timeout: patient.timeout, interval: 1500 };
  for (let kill = 1; kill <= 2; kill++) {
    const archived = "select archived_count from pg_stat_archiver";
    await expect.poll(() => count(archived), seldom).toBeGreaterThanOrEqual(3 * kill);
    agent.child.kill("SIGKILL");
    await agent.exit;
    // From the second on there is nobody to talk to.
    if (kill === 2) for (const session of service.sessions) session.cut();
    agent = start("run");
  }
  const waiting = "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'";
  await expect.poll(() => count(waiting), seldom).toBeLessThanOrEqual(1);
  const first = end - BigInt(queued) * size;
  await expectSame(lab, server, { timeline: 1, startLsn: first, endLsn: end }, size);
  const told = () => reportsOf(service.sessions.at(-1)).at(-1)?.archiver;
  await expect.poll(told, patient).toMatchObject({ isCommandSet: true, isHandingOver: false });
  agent.child.kill("SIGTERM");
  expect(await agent.exit).toEqual([0, null]);
});
