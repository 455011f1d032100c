// What a restore would stumble over hours later is said beforehand, by the plan in the same words; and a part that is
// brought back leaves the server beside it the disk that it needs.
import { EventEmitter } from "node:events";
import { writeFileSync } from "node:fs";
import { chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  TablespacePlaceSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findReserve } from "../../agent/src/physical/restore/directory/see-room.ts";
import { planPhysical } from "../../agent/src/physical/restore/plan.ts";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { compareTables } from "../../agent/src/scratch/compare-rows.ts";
import { connectionTo } from "../support/dumps/dump-lab.ts";
import { openPhysicalLab, physicalContent } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const stack = new AsyncDisposableStack();
let server: PostgresServer;
let lab: RestoreLab;
let backup: BackupAddress;
let oid: number;
let dataBytes: bigint;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18 }));
  const backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  const space = join(lab.folder, "source-space");
  await mkdir(space);
  await runProgram("chown", [server.owner.name, space], { env: process.env });
  await server.sql("postgres", `create tablespace extra location '${space}'`);
  await server.sql(
    "postgres",
    "create table moved tablespace extra as select sha512(i::text::bytea) from generate_series(1, 40000) i",
  );
  oid = Number(await server.sql("postgres", "select oid from pg_tablespace where spcname = 'extra'"));
  const taken = backups.command();
  dataBytes = physicalContent((await backups.take(taken)).manifest).dataBytes;
  backup = taken.backup;
});
afterAll(() => stack.disposeAsync());

/** An empty file system in the lab. */
async function mountDisk(name: string, options: string): Promise<string> {
  const folder = join(lab.folder, name);
  await mkdir(folder);
  const { code, stderr } = await runProgram("mount", ["-t", "tmpfs", "-o", options, "none", folder], {
    env: process.env,
  });
  if (code !== 0) throw new Error(stderr);
  stack.defer(async () => void (await runProgram("umount", ["--lazy", folder], { env: process.env })));
  return folder;
}
const restoreTo = async (name: string, location = join(lab.folder, `${name}-space`)) => ({
  ...(await lab.command(name, [backup])),
  tablespaces: [create(TablespacePlaceSchema, { oid, location })],
});
async function itemOf(command: RestorePhysicalCommand, name: string) {
  const { items } = await lab.with(command, planPhysical);
  return items.find((item) => item.name === name);
}

test("a place that the agent cannot write to is refused before anything is read", async () => {
  const parent = await mountDisk("closed", "size=1m,ro");
  const command = { ...(await restoreTo("unused")), dataDirectory: join(parent, "data") };
  expect(await itemOf(command, "directory")).toMatchObject({ status: CheckStatus.FAILED });
  await expect(lab.restore(command)).rejects.toMatchObject({ reason: "FILE_NOT_WRITABLE" });
  const space = await restoreTo("open", join(parent, "space"));
  await expect(lab.restore(space)).rejects.toMatchObject({ reason: "FILE_NOT_WRITABLE" });
});

test("a port that is taken is refused, and so is that of the source where that runs and has it by its configuration", async () => {
  const command = await restoreTo("port");
  const taken = { ...command, port: server.port };
  expect(await itemOf(taken, "port")).toMatchObject({ status: CheckStatus.FAILED });
  await expect(lab.restore(taken)).rejects.toMatchObject({ reason: "PORT_IN_USE" });
  expect(await itemOf({ ...command, port: 0 }, "port")).toMatchObject({
    status: CheckStatus.WARNING,
    message: expect.stringContaining(`listens on port ${server.port}`) as unknown,
  });
  expect(await itemOf(command, "port")).toMatchObject({ status: CheckStatus.OK });
  // As it is where the server was not told its port when it was started.
  const started = join(server.dataDir, "postmaster.opts");
  await writeFile(started, (await readFile(started, "utf8")).replace(/"-p" "\d+"/, ""));
  const unnamed = { ...command, port: 0 };
  expect(await itemOf(unnamed, "port")).toMatchObject({ status: CheckStatus.FAILED });
  await expect(lab.restore(unnamed)).rejects.toMatchObject({
    reason: "PORT_IN_USE",
    hint: expect.stringContaining("--port") as unknown,
  });
  // It has to be stopped for that, and its port is free then.
  const inPlace = { ...unnamed, dataDirectory: server.dataDir, replace: true };
  expect(await itemOf(inPlace, "port")).toMatchObject({ status: CheckStatus.OK });
  expect(await itemOf(inPlace, "directory")).toMatchObject({ status: CheckStatus.FAILED });
});

test("a port that is taken only while it is restored is said to be, with what names another", async () => {
  const command = await restoreTo("late");
  const phases = new EventEmitter();
  const other = createServer();
  phases.once("moving into place", () => other.listen(command.port, "0.0.0.0"));
  const restored = lab.restore(command, { onProgress: ({ phase }) => void phases.emit(phase) });
  await expect(restored).rejects.toMatchObject({
    reason: "SERVER_NOT_STARTED",
    hint: expect.stringContaining("--port") as unknown,
  });
  expect(other.listening).toBe(true);
  other.close();
});

test("a folder above a server that runs is not moved aside with it", async () => {
  const command = { ...(await restoreTo("above")), dataDirectory: dirname(server.dataDir), replace: true };
  expect(await itemOf(command, "directory")).toMatchObject({ status: CheckStatus.FAILED });
  await expect(lab.restore(command)).rejects.toMatchObject({
    reason: "SERVER_RUNNING",
    message: expect.stringContaining(`uses ${server.dataDir}`) as unknown,
  });
});

test("room is looked for on each file system, not on all of them together", async () => {
  const small = await mountDisk("small", "size=1m");
  const command = await restoreTo("roomy", join(small, "space"));
  expect(await itemOf(command, "space")).toMatchObject({ status: CheckStatus.FAILED });
  await expect(lab.restore(command)).rejects.toMatchObject({
    reason: "SPACE_MISSING",
    message: expect.stringContaining(`are free for ${join(small, "space")}`) as unknown,
  });
});

test("the WAL that is in a backup needs room, too, and a disk that is full of it is no fault of the backup", async () => {
  const command = await restoreTo("full");
  expect((await lab.with(command, planPhysical)).neededBytes).toBe(dataBytes + (16n << 20n));
  const disk = await mountDisk("disk", "size=56m");
  // Somebody else takes room meanwhile.
  const others = new Map([["WAL", () => writeFileSync(join(disk, "others"), Buffer.alloc(24 << 20))]]);
  const onProgress = ({ item }: { item: string }) => others.get(item)?.();
  await expect(lab.restore({ ...command, dataDirectory: join(disk, "data") }, { onProgress })).rejects.toMatchObject({
    reason: "SPACE_MISSING",
  });
  // Folders that it has made go, too.
  expect(await readdir(lab.folder)).not.toContain("full-space");
});

test("a folder that the server's user cannot come to is refused, and a path may hold backslashes", async () => {
  const closed = join(lab.folder, "roots");
  await mkdir(join(closed, "own"), { recursive: true, mode: 0o700 });
  await chown(join(closed, "own"), server.owner.uid, server.owner.gid);
  const command = await restoreTo("unreached");
  const unreached = { ...command, dataDirectory: join(closed, "own/data") };
  expect(await itemOf(unreached, "reach")).toMatchObject({ status: CheckStatus.FAILED });
  await expect(lab.restore(unreached)).rejects.toMatchObject({ reason: "FILE_NOT_WRITABLE" });
  const odd = await restoreTo(String.raw`back\tslash\101`);
  await lab.restore(odd);
  expect(await lab.sql(odd, "select count(*) from moved")).toBe("40000");
});

test("beside a server that runs some of its file system is left alone", async () => {
  expect(await findReserve(server.dataDir, join(server.dataDir, "..", "scratch"))).toBeGreaterThanOrEqual(2n << 30n);
  expect(await findReserve(server.dataDir, await mountDisk("other", "size=1m"))).toBe(0n);
  expect(await findReserve(join(lab.folder, "nowhere"), lab.folder)).toBe(0n);
});

test("rows that a live server could not sort within bounds are not compared", async () => {
  await server.sql(
    "postgres",
    `create table huge as select i as id from generate_series(1, 10) i;
     create role modest login password 'secret'; grant select on huge to modest;
     set allow_system_table_mods = on; update pg_class set reltuples = 1e9 where relname = 'huge'`,
  );
  const home = await mkdtemp(join(tmpdir(), "coppice-home-"));
  const endpoint = await resolveEndpoint(connectionTo(server).endpoint, server.password, { home });
  const modest = { ...endpoint, user: "modest", passwordFor: () => "secret" };
  const compare = async (live: typeof endpoint) => {
    const sides = { live: { endpoint: live, database: "postgres" }, recovered: { endpoint, database: "postgres" } };
    const options = { signal: AbortSignal.timeout(60_000), onTable: () => {} };
    return (await compareTables(sides, [{ schema: "public", name: "huge" }], options))[0];
  };
  const refused = await compare(modest);
  expect(refused).toMatchObject({ counted: false, note: expect.stringContaining("may not limit the disk") as unknown });
  expect(await compare(endpoint)).toMatchObject({ counted: true, same: 10n });
  await server.sql("postgres", "grant set on parameter temp_file_limit to modest");
  expect(await compare(modest)).toMatchObject({ counted: true, same: 10n });
  await rm(home, { recursive: true });
});
