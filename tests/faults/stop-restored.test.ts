// A restore that is undone stops its server before it removes anything: one that ends by itself just then is stopped, one
// that cannot be stopped keeps its files.
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { RestorePhysicalCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { afterAll, beforeAll, expect, test } from "vitest";
import { putToken } from "../../agent/src/physical/restore/directory/ownership.ts";
import { isServed } from "../../agent/src/physical/restore/directory/running-server.ts";
import { undo } from "../../agent/src/physical/restore/kept/undo.ts";
import { stopServer } from "../../agent/src/physical/restore/server.ts";
import { type Marker, writeMarker } from "../../agent/src/physical/restore/staging.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const stack = new AsyncDisposableStack();
let server: PostgresServer;
let folder: string;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 17 }));
  folder = await mkdtemp(join(tmpdir(), "coppice-stop-"));
  stack.defer(() => rm(folder, { recursive: true }));
});
afterAll(() => stack.disposeAsync());

test("a server that is about to end by itself counts as stopped, once all of its processes are gone", async () => {
  const programs = { version: "17.0", folder: server.binDir };
  for (let round = 0; round < 5; round++) {
    const [pid] = (await readFile(join(server.dataDir, "postmaster.pid"), "utf8")).split("\n");
    process.kill(Number(pid), "SIGQUIT");
    await stopServer({ data: server.dataDir, programs, user: { ...server.owner, home: "/" } });
    expect(await isServed(server.dataDir)).toBe(false);
    await server.stop("immediate");
    await server.start();
  }
});

test("what a server that cannot be stopped works in stays, and what was there before is named", async () => {
  await writeFile(join(folder, "pg_ctl"), "#!/bin/sh\nexit 1\n");
  for (const path of [folder, join(folder, "pg_ctl")]) await chmod(path, 0o755);
  const [staging, keptAs] = [join(folder, ".coppice-restore-op_1-data"), join(folder, "data.before")];
  for (const path of [staging, keptAs]) await mkdir(path);
  const marker: Marker = {
    operationId: "op_1",
    dataDirectory: server.dataDir,
    tablespaces: [],
    madeFolder: false,
    keptAs,
    state: "placing",
    token: "t",
    placement: "whole",
    entries: [],
  };
  const owner = { ...server.owner, home: "/" };
  await writeMarker(staging, marker);
  await putToken(server.dataDir, marker, owner);
  const leavings: string[] = [];
  await undo({
    command: create(RestorePhysicalCommandSchema, { dataDirectory: server.dataDir }),
    onLeaving: (leaving) => leavings.push(leaving),
    staging,
    owner,
    programs: { version: "17.0", folder },
    unpacked: undefined,
  });
  expect(leavings).toEqual([
    expect.stringMatching(/^what was restored into .*: a server in .* cannot be stopped: .*exit code 1/),
    `what was in ${server.dataDir} before, as ${keptAs}`,
  ]);
  expect(await server.sql("postgres", "select 1")).toBe("1");
});
