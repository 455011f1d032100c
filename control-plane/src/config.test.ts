import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, expect, test } from "vitest";
import { formatConfig, loadConfig } from "./config.ts";

let folder = "";
let file = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-config-"));
  file = join(folder, "control.yaml");
  await writeFile(file, "listen: 0.0.0.0:9000\naddresses: [https://cp.example:9000, https://10.0.0.1:9000]\n");
});
afterAll(() => rm(folder, { recursive: true }));

function problems(env: Record<string, string>, options = {}): string[] {
  try {
    loadConfig({ options, env });
  } catch (error) {
    if (error instanceof Failure) return error.fields.map(({ field }) => field);
    throw error;
  }
  return [];
}

test("without any setting it listens on loopback alone", () => {
  expect(loadConfig({ options: {}, env: {} })).toMatchObject({
    listen: { host: "127.0.0.1", port: 7443 },
    databaseUrl: undefined,
    heartbeatMs: 10_000,
  });
});

test("the command line wins over the environment, and that over the file", () => {
  const env = { COPPICE_CONFIG: file, COPPICE_LOG_LEVEL: "warn" };
  expect(loadConfig({ options: {}, env })).toMatchObject({
    listen: { host: "0.0.0.0", port: 9000 },
    addresses: ["https://cp.example:9000", "https://10.0.0.1:9000"],
    logLevel: "warn",
  });
  const withListen = { ...env, COPPICE_LISTEN: "[::1]:9001" };
  expect(loadConfig({ options: {}, env: withListen }).listen).toEqual({ host: "::1", port: 9001 });
  const options = { listen: "127.0.0.1:0" };
  expect(loadConfig({ options, env: withListen }).listen).toEqual({ host: "127.0.0.1", port: 0 });
});

test("every problem is reported at once, and no secret is repeated", async () => {
  const bad = join(folder, "bad.yaml");
  await writeFile(bad, "listne: 1\nlog_level: loud\n");
  const env = {
    COPPICE_LISTEN: "7443",
    COPPICE_MASTER_KEY: "short-and-secret",
    COPPICE_DATABASE_URL: "mysql://user:secret@host/db",
    COPPICE_HEARTBEAT_INTERVAL: "1ms",
    COPPICE_ADDRESSES: "http://x",
  };
  const found = problems(env, { config: bad });
  expect(found).toEqual([
    `${bad}: listne`,
    "COPPICE_LISTEN",
    "COPPICE_ADDRESSES",
    "COPPICE_DATABASE_URL",
    "COPPICE_MASTER_KEY",
    `${bad}: log_level`,
    "COPPICE_HEARTBEAT_INTERVAL",
  ]);
  expect(() => loadConfig({ options: { config: bad }, env })).toThrow(/^(?!.*secret).*$/s);
});

test("a named file that is missing is a problem, the default one is not", () => {
  expect(problems({}, { config: join(folder, "none.yaml") })).toEqual([join(folder, "none.yaml")]);
  expect(problems({})).toEqual([]);
});

test("the settings are shown without their secrets", () => {
  const env = {
    COPPICE_DATABASE_URL: "postgres://user:secret@host/db",
    COPPICE_MASTER_KEY: Buffer.alloc(32, 7).toString("base64"),
  };
  const shown = formatConfig(loadConfig({ options: {}, env }));
  expect(shown).toContain("listen: 127.0.0.1:7443");
  expect(shown).not.toContain("secret");
  expect(shown).not.toContain(env.COPPICE_MASTER_KEY);
});
