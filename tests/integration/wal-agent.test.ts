// Archiving by the real agent: told once by a control plane, killed again and again, and with nobody to report to.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { expect, test } from "vitest";
import { makeTestAuthority } from "../support/agent-authority.ts";
import { type ServedSession, serveAgentService } from "../support/agent-service.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";

const main = fileURLToPath(new URL("../../agent/src/main.ts", import.meta.url));
const patient = { timeout: 30_000, interval: 50 };
const segmentBytes = 16n << 20n;

const reportsOf = (session: ServedSession | undefined): WalReport[] =>
  (session?.received ?? []).flatMap(({ message }) => (message.case === "walReport" ? [message.value] : []));

test("an agent that is killed under load archives without a hole, also with no control plane", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "coppice-agent-wal-"));
  stack.defer(() => rm(folder, { recursive: true }));
  const server = stack.use(await openPostgresServer({ major: 18, settings: { wal_keep_size: "2GB" } }));
  const lab = stack.use(await openArchiveLab(server, { maxAgeSeconds: 1 }));
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
  service.sessions[0]?.send({
    case: "desiredState",
    value: {
      revision: 4n,
      last: true,
      entries: [
        {
          id: "wal",
          secrets: [{ id: "sec_password", value: server.password }],
          desired: { case: "walArchive", value: lab.archive },
        },
      ],
    },
  });
  await expect.poll(() => reportsOf(service.sessions[0]).at(-1)?.receivedLsn, patient).toMatch("/");
  const [first] = reportsOf(service.sessions[0]).flatMap((report) => report.anchors);
  await expect
    .poll(() => reportsOf(service.sessions[0]).flatMap(({ anchors }) => anchors).length, patient)
    .toBeGreaterThan(0);
  expect(first?.timeline ?? 1).toBe(1);

  await server.sql("postgres", "create table load (id int, text text)");
  const from = parseLsn(await server.sql("postgres", "select pg_current_wal_lsn()"));
  const insert = "insert into load select id, repeat(md5(id::text), 8) from generate_series(1, 60000) id";
  for (let round = 0; round < 4; round++) {
    const load = server.sql("postgres", insert);
    await new Promise((resolve) => setTimeout(resolve, 200 + round * 150));
    agent.child.kill("SIGKILL");
    await agent.exit;
    await load;
    // From the third on there is nobody to talk to.
    if (round === 2) for (const session of service.sessions) session.cut();
    agent = start("run");
  }
  await server.sql("postgres", insert);
  const end = parseLsn(await server.sql("postgres", "select pg_switch_wal()"));
  const last = end - (end % segmentBytes);
  await expect
    .poll(() => lab.fetch(segmentName(1, last, segmentBytes)).then((bytes) => bytes?.length), patient)
    .toBe(Number(segmentBytes));
  let compared = 0;
  for (let lsn = from - (from % segmentBytes); lsn <= last; lsn += segmentBytes) {
    const name = segmentName(1, lsn, segmentBytes);
    const written = await readFile(join(server.dataDir, "pg_wal", name));
    await expect.poll(async () => (await lab.fetch(name))?.equals(written), patient).toBe(true);
    compared++;
  }
  expect(compared).toBeGreaterThan(3);
  const told = service.sessions.at(-1)?.received[0]?.message;
  expect(told?.case === "hello" ? told.value.desiredRevision : undefined).toBe(4n);
  agent.child.kill("SIGTERM");
  expect(await agent.exit).toEqual([0, null]);
});
