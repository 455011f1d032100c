import { readFile } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { RestoreGlobalsCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { DumpCodec, DumpFormat } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { restoreGlobals } from "../../agent/src/logical/globals/restore-globals.ts";
import { openContentCheck } from "../../agent/src/logical/verify-content.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const richCluster = new URL("../support/dumps/rich-cluster.sql", import.meta.url);
const richDatabase = new URL("../support/dumps/rich-database.sql", import.meta.url);

interface Place {
  readonly server: PostgresServer;
  readonly lab: DumpLab;
}
const places = new Map<number, Place>();

async function open(major: number): Promise<void> {
  const server = await openPostgresServer({ major, settings: { wal_level: "logical" } });
  places.set(major, { server, lab: await openDumpLab(server) });
  await server.sql("postgres", await readFile(richCluster, "utf8"));
  await server.sql("shop", await readFile(richDatabase, "utf8"));
}
beforeAll(() => Promise.all([15, 16, 17].map(open)));
afterAll(async () => {
  for (const { lab, server } of places.values()) {
    await lab[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  }
});

function placeOf(major: number): Place {
  const place = places.get(major);
  if (!place) throw new Error(`there is no server of ${major}`);
  return place;
}

describe("a server of PostgreSQL 16 with the tools of 17", () => {
  let server: PostgresServer;
  let lab: DumpLab;
  let dumped: Dumped;
  let before: string;
  beforeAll(async () => {
    ({ server, lab } = placeOf(16));
    before = await portrayDatabase(server, "shop");
    dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
  });
  const backup = () => {
    const { backup: address } = lab.restoreCommand(dumped, "shop", "shop");
    const location = address?.repository?.location;
    if (!address || !location) throw new Error("no backup");
    return { address, location, signal: AbortSignal.timeout(30_000) };
  };

  test("is dumped whole, and what was stored is verified down to its content", async () => {
    expect(dumped.failure).toBeUndefined();
    const { manifest } = dumped.result;
    expect(manifest?.complete).toBe(true);
    expect(Math.floor((manifest?.serverVersionNum ?? 0) / 10_000)).toBe(16);
    expect(manifest?.tools.find(({ name }) => name === "pg_dump")?.version).toMatch(/^17\./);
    const { address, location, signal } = backup();
    await using storage = await openStorage(location, { operationId: "op_verify", signal });
    const openContent = (read: BackupManifest) => openContentCheck(read, { identities: undefined, signal });
    const verified = await verifyBackup(storage, address, { signal, onProgress: () => {}, openContent });
    expect(verified.failure).toBeUndefined();
    expect(verified.result.problems).toEqual([]);
  });

  test("takes its database back in place of a changed one, by a copy, and from plain SQL, equal in everything", async () => {
    await server.sql("shop", "truncate event; alter database shop reset all");
    const command = { ...lab.restoreCommand(dumped, "shop", "shop", RestoreMode.REPLACE), jobs: 2 };
    const { warnings, ...result } = await lab.restore(command);
    expect(result).toMatchObject({ keptAs: command.keptDatabase, tables: 7 });
    expect(warnings).toEqual([expect.stringContaining("by one job only")]);
    expect(await portrayDatabase(server, "shop")).toBe(before);
    expect(await server.sql(command.keptDatabase, "select count(*) from event")).toBe("0");

    expect(await lab.restore(lab.restoreCommand(dumped, "shop", "copy"))).toMatchObject({ tables: 7, warnings: [] });
    await server.sql("postgres", "drop database shop; alter database copy rename to shop");
    expect(await portrayDatabase(server, "shop")).toBe(before);

    const plain = await lab.dump(
      lab.dumpCommand({ databases: ["shop"], format: DumpFormat.PLAIN, codec: DumpCodec.GZIP }),
    );
    expect(plain.failure).toBeUndefined();
    const again = lab.restoreCommand(plain, "shop", "shop", RestoreMode.REPLACE);
    expect(await lab.restore(again)).toMatchObject({ warnings: [expect.stringContaining("SQL script")] });
    expect(await portrayDatabase(server, "shop")).toBe(before);
  });

  test("takes tables into a database that is there, all of them or none", async () => {
    await server.sql("postgres", "create database beside");
    const selection = create(RestoreSelectionSchema, { tables: [{ name: "parent" }, { name: "child" }] });
    const into = lab.restoreCommand(dumped, "shop", "beside", RestoreMode.INTO);
    expect(await lab.restore({ ...into, selection })).toMatchObject({ tables: 2 });
    expect(await server.sql("beside", "select count(*) from parent")).toBe("2");
  });

  test("takes roles back, statement by statement", async () => {
    const { address, location, signal } = backup();
    await using fresh = await openPostgresServer({ major: 16 });
    await using storage = await openStorage(location, { operationId: "op_globals", signal });
    const done = await restoreGlobals({
      command: create(RestoreGlobalsCommandSchema, { connection: connectionTo(fresh), backup: address }),
      password: fresh.password,
      identities: undefined,
      files: lab.files,
      storage,
      signal,
    });
    expect(done.createdRoles.toSorted()).toEqual([`gr'ant"er`, "re ader", "shop_owner"]);
  });
});

test.each([15, 16, 17])("a dump of PostgreSQL %i goes into 17 with all its rows", async (major) => {
  const [from, to] = [placeOf(major), placeOf(17)];
  const dumped = await from.lab.dump(from.lab.dumpCommand({ databases: ["shop"] }));
  const command = from.lab.restoreCommand(dumped, "shop", `from_${major}`);
  // Each lab counts its own names, and they meet on one server here.
  const there = { stagedDatabase: `coppice_restore_of_${major}`, connection: connectionTo(to.server), jobs: 2 };
  const result = await from.lab.restore({ ...command, ...there }, { password: to.server.password });
  expect(result).toMatchObject({ tables: 7, warnings: [] });
  const checksum = "select md5(string_agg(t::text, '' order by t::text)) from customer t";
  expect(await to.server.sql(`from_${major}`, checksum)).toBe(await from.server.sql("shop", checksum));
});

test("a dump of PostgreSQL 17 is refused by a server of 16 before anything is made", async () => {
  const [from, to] = [placeOf(17), placeOf(16)];
  const dumped = await from.lab.dump(from.lab.dumpCommand({ databases: ["template1"] }));
  const back = { ...from.lab.restoreCommand(dumped, "template1", "back"), connection: connectionTo(to.server) };
  await expect(from.lab.restore(back, { password: to.server.password })).rejects.toMatchObject({
    reason: "SERVER_UNSUPPORTED",
  });
});
