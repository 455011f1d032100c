// One thing: RECOVER.txt of every format, codec and encryption, run as somebody without Coppice would run it.
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { DumpCodec, DumpFormat, type DumpOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const richCluster = new URL("../support/dumps/rich-cluster.sql", import.meta.url);
const richDatabase = new URL("../support/dumps/rich-database.sql", import.meta.url);
const strange = `two "words" o'clock\nand $(a line)`;
/** All that the recipe may need; nothing else is to be found, least of all Node. */
const systemPrograms = ["age", "bash", "cat", "grep", "gzip", "mkdir", "sed", "sha256sum", "zstd"];

const { CUSTOM, PLAIN } = DumpFormat;
const { ZSTD, GZIP, NONE } = DumpCodec;
type Case = [major: number, format: DumpFormat, codec: DumpCodec, isEncrypted: boolean, isWhole: boolean];
// Every value meets every value of the others, on each side of the tools' change in 17.
const cases: Case[] = [
  [15, CUSTOM, GZIP, true, false],
  [15, PLAIN, ZSTD, true, true],
  [15, PLAIN, NONE, false, false],
  [18, CUSTOM, ZSTD, false, false],
  [18, CUSTOM, NONE, true, false],
  [18, PLAIN, GZIP, false, true],
];
const nameOf = (format: DumpFormat, codec: DumpCodec) => `${DumpFormat[format]}, ${DumpCodec[codec]}`;

let key: AgeKey;
let folder: string;
beforeAll(async () => {
  key = await makeAgeKey();
  folder = await mkdtemp(join(tmpdir(), "coppice-recipe-"));
  await writeFile(join(folder, "identity.txt"), key.identityFile, { mode: 0o600 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.each([15, 18])("of PostgreSQL %i", (major) => {
  let source: PostgresServer;
  let lab: DumpLab;
  let portrait: string;
  beforeAll(async () => {
    source = await openPostgresServer({ major, settings: { wal_level: "logical" } });
    lab = await openDumpLab(source);
    await source.sql("postgres", await readFile(richCluster, "utf8"));
    await source.sql("shop", await readFile(richDatabase, "utf8"));
    await source.sql("postgres", "create table kept as select 42 as answer");
    portrait = await portrayDatabase(source, "shop");
    const bin = join(folder, `bin${major}`);
    await mkdir(bin);
    for (const name of systemPrograms) await symlink(join("/usr/bin", name), join(bin, name));
    for (const name of ["psql", "pg_restore"]) await symlink(join(source.binDir, name), join(bin, name));
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await source?.[Symbol.asyncDispose]();
  });

  async function dump(options: MessageInitShape<typeof DumpOptionsSchema>, isEncrypted: boolean): Promise<string> {
    const command = lab.dumpCommand(options, isEncrypted ? [key.recipient] : []);
    const { failure, result } = await lab.dump(command);
    expect(failure).toBeUndefined();
    expect(result.manifest?.recipients).toEqual(isEncrypted ? [key.recipient] : []);
    return join(lab.repository, "cls_test/backups", command.backup?.folder ?? "");
  }

  /** With nothing in the environment but where the server and the identity are. */
  function recover(
    backup: string,
    target: PostgresServer,
    { args = [], identity = join(folder, "identity.txt") }: { args?: readonly string[]; identity?: string } = {},
  ) {
    const env = {
      PATH: join(folder, `bin${major}`),
      PGHOST: "127.0.0.1",
      PGPORT: String(target.port),
      PGUSER: target.superuser,
      IDENTITY: identity,
    };
    const settings = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const inBackup = ["--chdir", backup, "-i", ...settings, "bash", "RECOVER.txt", ...args];
    return runProgram("/usr/bin/env", inBackup, { env: {} });
  }

  // Logging in by password would end with the globals, which bring the backup's.
  const openTarget = () =>
    openPostgresServer({ major, hba: ["host all all 127.0.0.1/32 trust"], settings: { wal_level: "logical" } });

  async function checkRestored(target: PostgresServer) {
    expect(await portrayDatabase(target, "shop")).toBe(portrait);
    expect(await target.sql("postgres", "select answer from kept")).toBe("42");
    const passwords = "select rolname, rolpassword from pg_authid where rolname !~ '^pg_' order by 1";
    expect(await target.sql("postgres", passwords)).toBe(await source.sql("postgres", passwords));
  }

  const own = cases.filter(([ofMajor]) => ofMajor === major);
  test.each(own.map((each) => [nameOf(each[1], each[2]), each] as const))(
    "the recipe of a dump as %s restores the whole cluster with standard programs alone",
    async (_name, [, format, codec, isEncrypted, isWhole]) => {
      // pg_dumpall refuses such a name.
      const name = isWhole ? "plainly named" : strange;
      const quoted = `"${name.replaceAll('"', '""')}"`;
      await source.sql("postgres", `create database ${quoted}`);
      const level = codec === NONE ? 0 : 1;
      const backup = await dump({ format, codec, clusterDump: isWhole, compressionLevel: level }, isEncrypted);
      await source.sql("postgres", `drop database ${quoted}`);
      for (const args of isWhole ? [[], ["cluster"]] : [[]]) {
        await using target = await openTarget();
        const { code, stderr } = await recover(backup, target, { args });
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
        await checkRestored(target);
        const names = await target.sql("postgres", "select to_json(datname) from pg_database");
        expect(names.split("\n")).toContain(JSON.stringify(name));
      }
    },
    60_000,
  );

  test("a recipe stops at a changed byte, and at a missing identity, before it touches the server", async () => {
    const backup = await dump({ databases: ["postgres"], codec: GZIP }, true);
    const without = await recover(backup, source, { identity: "" });
    expect(without.stderr).toContain("IDENTITY: set it to the path of an age identity file");
    const file = join(backup, "globals.sql.gz.age.0000");
    const bytes = await readFile(file);
    bytes.writeUInt8(bytes.readUInt8(300) ^ 1, 300);
    await writeFile(file, bytes);
    const changed = await recover(backup, source);
    expect(changed.code).not.toBe(0);
    expect(`${changed.stdout}${changed.stderr}`).toContain("globals.sql.gz.age.0000: FAILED");
    const text = await readFile(join(backup, "RECOVER.txt"), "utf8");
    expect(text).toContain(key.recipient);
    expect(text).not.toContain("AGE-SECRET-KEY");
  });
});
