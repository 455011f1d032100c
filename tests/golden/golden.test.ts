// One thing: repositories of the past, and that this build still lists, verifies and restores every one of them.
import { createHash } from "node:crypto";
import { cp, glob, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { restoreDatabase } from "../../agent/src/logical/restore.ts";
import { openContentCheck } from "../../agent/src/logical/verify-content.ts";
import { parseManifest } from "../../agent/src/repository/manifest-text.ts";
import { scanRepository } from "../../agent/src/repository/survey/scan.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { portrayGolden } from "./portrait.ts";

// Never to be changed: what was committed once stays as it is, and so does its digest here. When this test fails, the
// program has forgotten how to read what it wrote.
const committed = join(import.meta.dirname, "v1");
const digest = "9b90fdfd85ba59020dbbb947382d6dc67b209833e5f5f2da94899b7d305f1463";

const clusterId = `cls_${"0".repeat(25)}1`;
const backupIdOf = (number: number) => `bkp_${String(number).padStart(26, "0")}`;
const odd = `two "words" o'clock`;
const oddest = `line\nbreak 🌲 dbname=other $(id) --x`;

const initial = ["postgres", "template1"];

const signal = AbortSignal.timeout(240_000);
let copy: string;
let repository: string;
let storage: Storage;
let identity: string;
let portrait: string[];

beforeAll(async () => {
  copy = await mkdtemp(join(tmpdir(), "coppice-golden-"));
  repository = join(copy, "repository");
  await cp(committed, copy, { recursive: true });
  storage = await openFilesystem(repository, "op_golden");
  identity = await readFile(join(copy, "identity.txt"), "utf8");
  portrait = (await readFile(join(copy, "portrait.txt"), "utf8")).trimEnd().split("\n");
});
afterAll(() => rm(copy, { recursive: true, force: true }));

const scan = () => scanRepository(storage, { knownFolders: [], activeFolders: [], signal, onProgress: () => {} });

async function find(
  number: number,
): Promise<{ address: BackupAddress; folder: string; databases: string[]; isPlain: boolean }> {
  const found = (await scan()).backups.find(({ folder }) => folder.endsWith(backupIdOf(number)));
  if (!found) throw new Error(`there is no ${backupIdOf(number)}`);
  const { folder, manifest, manifestSha256 } = found;
  const dump = dumpContent(parseManifest(manifest, folder));
  return {
    address: create(BackupAddressSchema, { clusterId, backupId: backupIdOf(number), folder, manifestSha256 }),
    folder: join(repository, clusterId, "backups", folder),
    databases: dump?.databases.map(({ name }) => name) ?? [],
    isPlain: dump?.databases.some(({ format }) => format === "plain") ?? false,
  };
}

test("not one byte of it was changed", async () => {
  const names = (
    await Array.fromAsync(glob("{repository,identity.txt,portrait.txt}{,/**}", { cwd: committed, withFileTypes: true }))
  )
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .toSorted();
  const hash = createHash("sha256");
  for (const name of names) {
    const bytes = await readFile(name);
    hash.update(`${name.slice(committed.length + 1)} ${createHash("sha256").update(bytes).digest("hex")}\n`);
  }
  expect(hash.digest("hex")).toBe(digest);
});

test("each backup of it is listed, and nothing else is found there", async () => {
  const found = await scan();
  expect(found).toMatchObject({ unreadable: [], foreignKeys: [], more: false });
  expect(found.clusterFiles).toHaveLength(1);
  expect(await Promise.all([1, 2, 3, 4, 5].map(async (number) => (await find(number)).databases))).toEqual([
    ["orders", odd],
    ["template1", "orders", "postgres", odd],
    [oddest, "orders"],
    [oddest],
    [oddest],
  ]);
  for (const { recipe } of found.backups) expect(recipe).toContain("golden");
});

test.each([1, 2, 3, 4, 5])("backup %i is good to the last byte of its contents", async (number) => {
  const { address } = await find(number);
  const { failure, result } = await verifyBackup(storage, address, {
    signal,
    onProgress: () => {},
    openContent: (manifest) => openContentCheck(manifest, { identities: identity, signal }),
  });
  expect(failure).toBeUndefined();
  expect(result.problems).toEqual([]);
});

describe("into PostgreSQL 18", () => {
  let server: PostgresServer;
  let lab: DumpLab;
  beforeAll(async () => {
    server = await openPostgresServer({ major: 18 });
    lab = await openDumpLab(server);
    await server.sql("postgres", await readFile(join(import.meta.dirname, "cluster.sql"), "utf8"));
    await server.sql("postgres", 'create database "template0 copy" template template0');
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  test.each([1, 2, 3, 4, 5])("each database of backup %i is restored as it was", async (number) => {
    const { address, databases, isPlain } = await find(number);
    for (const [index, database] of databases.entries()) {
      const target = `from ${number} ${index} ${database}`;
      const command = create(RestoreDatabaseCommandSchema, {
        backup: address,
        database,
        connection: connectionTo(server),
        targetDatabase: target,
        mode: RestoreMode.NEW,
        stagedDatabase: `coppice_restore_${number}_${index}`,
      });
      const result = await restoreDatabase({
        command,
        password: server.password,
        identities: identity,
        files: lab.files,
        storage,
        workFolder: lab.workFolder,
        signal,
        onProgress: () => {},
        log: () => {},
        onStaged: async () => {},
        onLeaving: () => {},
      });
      expect(result.warnings.join("\n")).toMatch(isPlain ? /^the objects of a SQL script are not compared.*$/ : /^$/);
      // What every cluster has was empty.
      const wanted = initial.includes(database) ? await portrayGolden(server, "template0 copy") : portrait;
      expect(await portrayGolden(server, target)).toEqual(wanted);
    }
  });
});

test.each([
  [2, []],
  [2, ["cluster"]],
  [3, []],
  [4, []],
] as const)("the recipe of backup %i restores all of it, called with %j", async (number, args) => {
  const { folder, databases } = await find(number);
  await using target = await openPostgresServer({ major: 18, hba: ["host all all 127.0.0.1/32 trust"] });
  const env = {
    PATH: `${target.binDir}:/usr/bin:/bin`,
    LANG: "C.UTF-8",
    PGHOST: "127.0.0.1",
    PGPORT: String(target.port),
    PGUSER: target.superuser,
    IDENTITY: join(copy, "identity.txt"),
  };
  const ended = await runProgram("env", ["--chdir", folder, "bash", "--norc", "RECOVER.txt", ...args], { env });
  expect(ended).toMatchObject({ code: 0, stderr: "" });
  const own = databases.filter((name) => !initial.includes(name));
  for (const name of own) expect(await portrayGolden(target, name)).toEqual(portrait);
  const owner = "select rolname from pg_roles where rolname ~ '^golden' order by 1";
  expect(await target.sql("postgres", owner)).toBe("golden reader\ngolden_owner");
});
