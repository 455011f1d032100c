import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { openCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type Ended, runProgram } from "../support/run-program.ts";
import { openTmux } from "../support/scenarios/tmux.ts";
import { startSshd } from "../support/sshd/sshd.ts";

const program = join(import.meta.dirname, "../../agent/src/main.ts");
const signal = AbortSignal.timeout(120_000);
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let lab: DumpLab;
let folder: string;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18 }));
  lab = stack.use(await openDumpLab(server));
  folder = await mkdtemp(join(tmpdir(), "coppice-offline-test-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  await server.sql("postgres", "create database orders");
  await server.sql("orders", "create table t as select i from generate_series(1, 1000) i");
  await lab.dump(lab.dumpCommand());
});
afterAll(() => stack.disposeAsync());

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return runProgram(process.execPath, [program, ...args], {
    env: { PATH: "/usr/bin:/bin", HOME: folder, PGPASSWORD: server.password, ...env },
  });
}

/** The lab's repository, object by object. */
async function copyTo(storage: Storage): Promise<void> {
  const source = await openFilesystem(lab.repository, "op_copy");
  for await (const { key } of source.list("", signal))
    await storage.put(key, await source.get(key, { signal }), { signal, ifAbsent: false });
}

async function useIt(place: readonly string[], target: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const listed = await run(["ls", ...place], env);
  expect(listed.code, listed.stderr).toBe(0);
  expect(listed.stdout).toMatch(/^shop {2}cls_test {2}last good bkp_1$/m);
  const verified = await run(["verify", ...place], env);
  expect(verified.code, verified.stderr).toBe(0);
  expect(verified.stdout).toContain("every digest matches");
  const to = ["--database", "orders", "--as", target, "--to", `127.0.0.1:${server.port}`, "--jobs", "2"];
  const restored = await run(["restore", "shop", ...place, ...to], env);
  expect(restored.code, restored.stderr).toBe(0);
  expect(restored.stdout).toContain(`✓ ${target} is restored`);
  expect(await server.sql(target, "select count(*) from t")).toBe("1000");
}

test("a bucket is read with the keys of the environment, and refused without", async () => {
  const ceph = await openCephLab();
  const bucket = await newBucket(ceph, { prefix: "prod" });
  const credentials = { write: credentialOf(ceph.owner) };
  await using storage = await openStorage(
    { $typeName: "coppice.common.v1.RepositoryLocation", kind: { case: "s3", value: bucket } },
    { operationId: "op_copy", credentials, signal },
  );
  await copyTo(storage);
  const caFile = join(folder, "ca.pem");
  await writeFile(caFile, ceph.caPem);
  const repo = ["--repo", `s3://${bucket.bucket}/prod`, "--region", ceph.region];
  const place = [...repo, "--endpoint", ceph.tlsEndpoint, "--ca-file", caFile];
  const { accessKeyId, secretAccessKey } = ceph.owner;
  const keys = {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_EC2_METADATA_DISABLED: "true",
  };
  await useIt(place, "from_bucket", keys);
  const refused = await run(["ls", ...place], { ...keys, AWS_SECRET_ACCESS_KEY: "wrong" });
  expect(refused.code, refused.stderr).toBe(4);
  expect(refused.stderr).toMatch(/^✗ .+\n {2}next: give the right keys: S3 by AWS_ACCESS_KEY_ID .+\n$/);
  expect(refused.stderr).not.toContain(secretAccessKey);
});

test("a folder on a server is read over SSH, whose key has to be known", async () => {
  await using sshd = await startSshd();
  const url = `ssh://${sshd.user}@127.0.0.1:${sshd.port}${lab.repository}`;
  const place = ["--repo", url, "--identity-file", sshd.identityFile];
  await useIt([...place, "--host-key", sshd.hostKey], "from_server");
  const known = join(folder, "known_hosts");
  await writeFile(known, `[127.0.0.1]:${sshd.port} ${sshd.hostKey}\n`);
  expect(await run(["ls", ...place, "--known-hosts", known])).toMatchObject({ code: 0, stderr: "" });
  const unknown = await run(["ls", ...place]);
  expect(unknown.code, unknown.stderr).toBe(5);
  expect(unknown.stderr).toContain("ssh-keyscan");
});

test("at a terminal what would be replaced is shown, and replaced only when its name was typed", async () => {
  await server.sql("orders", "truncate t");
  const command = [process.execPath, program, "restore", "shop", "--repo", lab.repository, "--database", "orders"];
  const replace = [...command, "--replace", "--to", `127.0.0.1:${server.port}`];
  const env = { PATH: "/usr/bin:/bin", HOME: folder, PGPASSWORD: server.password };
  await using tmux = await openTmux();
  await tmux.run(env, replace);
  await tmux.shows(/the present one is kept as orders_before_\d{14}[^]*type orders to go on:/);
  await tmux.type("order");
  await tmux.press("Enter");
  await tmux.shows(/this was not confirmed, nothing was changed/);
  expect(await tmux.exitCode()).toBe(2);
  await tmux.run(env, replace);
  await tmux.shows(/type orders to go on:/);
  await tmux.press("C-d");
  expect(await tmux.exitCode()).toBe(2);
  expect(await server.sql("orders", "select count(*) from t")).toBe("0");
  await tmux.run(env, replace);
  await tmux.shows(/type orders to go on:/);
  await tmux.type("orders");
  await tmux.press("Enter");
  expect(await tmux.exitCode()).toBe(0);
  await tmux.shows(/what was there is kept as orders_before_/);
  expect(await server.sql("orders", "select count(*) from t")).toBe("1000");
});

test("a restore whose output nobody reads any more goes on to its end", async () => {
  const to = ["--database", "orders", "--as", "unread", "--to", `127.0.0.1:${server.port}`];
  const child = spawn(process.execPath, [program, "restore", "shop", "--repo", lab.repository, ...to], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: "/usr/bin:/bin", HOME: folder, PGPASSWORD: server.password },
  });
  child.stdout.destroy();
  child.stderr.destroy();
  expect(await once(child, "exit")).toEqual([0, null]);
  expect(await server.sql("unread", "select count(*) from t")).toBe("1000");
});
