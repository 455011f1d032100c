import { readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { DumpCodec, DumpFormat } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { openContentCheck } from "../../agent/src/logical/verify-content.ts";
import { manifestObjects } from "../../agent/src/repository/manifest-objects.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

let server: PostgresServer;
let lab: DumpLab;
let key: AgeKey;
beforeAll(async () => {
  [server, key] = await Promise.all([openPostgresServer({ major: 18 }), makeAgeKey()]);
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database orders");
  await server.sql("orders", "create table t as select id, md5(id::text) from generate_series(1, 3000) as id");
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const signal = AbortSignal.timeout(120_000);
const folderOf = ({ result }: Dumped) =>
  join(lab.repository, "cls_test/backups", `20261121T000000Z_dump_${result.manifest?.backupId}`);

async function verify({ result: { manifest } }: Dumped, identities?: string, isContent = true, sha256 = "") {
  if (!manifest) throw new Error("no manifest");
  const location = { kind: { case: "filesystem" as const, value: { path: lab.repository } } };
  const address = create(BackupAddressSchema, {
    repository: { repositoryId: "rep_test", name: "main", location },
    clusterId: "cls_test",
    backupId: manifest.backupId,
    folder: `20261121T000000Z_dump_${manifest.backupId}`,
    manifestSha256: sha256,
  });
  if (!address.repository?.location) throw new Error("no location");
  await using storage = await openStorage(address.repository.location, { operationId: "op_verify", signal });
  const openContent = (read: typeof manifest) => openContentCheck(read, { identities, signal });
  return await verifyBackup(storage, address, { signal, onProgress: () => {}, ...(isContent ? { openContent } : {}) });
}

async function dump(format: DumpFormat, codec: DumpCodec, isEncrypted: boolean): Promise<Dumped> {
  const options = { format, codec, clusterDump: true };
  const dumped = await lab.dump(lab.dumpCommand(options, isEncrypted ? [key.recipient] : []));
  expect(dumped.failure).toBeUndefined();
  return dumped;
}

const { CUSTOM, PLAIN } = DumpFormat;
const { ZSTD, GZIP, NONE } = DumpCodec;

test.each([
  ["custom, zstd, encrypted", CUSTOM, ZSTD, true],
  ["plain, gzip", PLAIN, GZIP, false],
  ["custom, uncompressed", CUSTOM, NONE, false],
] as const)(
  "of a dump as %s every byte is looked into once, and a flipped one in any object is found and named",
  async (_name, format, codec, isEncrypted) => {
    const dumped = await dump(format, codec, isEncrypted);
    const good = await verify(dumped, key.identityFile);
    expect(good.failure).toBeUndefined();
    const objects = dumped.result.manifest ? manifestObjects(dumped.result.manifest) : [];
    expect(good.result.objects).toBe(objects.length + 1);
    expect(good.result.bytes).toBe(dumped.result.storedBytes);
    expect(objects.map(({ affects }) => affects)).toEqual([
      "globals",
      "template1",
      "orders",
      "postgres",
      "cluster dump",
      "recipe",
    ]);
    for (const { object, affects } of objects) {
      const file = join(folderOf(dumped), object.key);
      const bytes = await readFile(file);
      const middle = bytes.length >> 1;
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(middle) ^ 0x40, middle);
      await writeFile(file, changed);
      for (const isContent of [true, false]) {
        const { failure, result } = await verify(dumped, key.identityFile, isContent);
        expect(result.problems.map((problem) => [problem.key.endsWith(object.key), problem.affects])).toEqual([
          [true, affects],
        ]);
        expect(failure).toMatchObject({ reason: "DIGEST_MISMATCH", metadata: { affects } });
        expect(result.objects).toBe(objects.length);
      }
      await writeFile(file, bytes);
    }
  },
);

test("a stream that was stored whole and is cut short inside is found by its content alone", async () => {
  for (const [format, name, said] of [
    [CUSTOM, "orders", "pg_restore ended with exit code 1"],
    [PLAIN, "orders", "it was cut off"],
  ] as const) {
    const dumped = await dump(format, NONE, false);
    const content = dumpContent(dumped.result.manifest);
    const object = content?.databases.find((database) => database.name === name)?.stream?.objects[0];
    if (!object) throw new Error("nothing was stored");
    const file = join(folderOf(dumped), object.key);
    const size = Number(object.sizeBytes) - 60;
    await truncate(file, size);
    // As if it had been so when it was stored.
    const sha256 = createHash("sha256")
      .update(await readFile(file))
      .digest("hex");
    const manifestFile = join(folderOf(dumped), "manifest.json");
    const text = await readFile(manifestFile, "utf8");
    await writeFile(manifestFile, text.replace(object.sha256, sha256).replace(`"${object.sizeBytes}"`, `"${size}"`));
    expect((await verify(dumped, undefined, false)).failure).toBeUndefined();
    const { failure, result } = await verify(dumped);
    expect(result.problems).toMatchObject([{ affects: name, message: expect.stringContaining(said) as unknown }]);
    expect(failure?.reason).toBe("CONTENT_UNREADABLE");
  }
});

test("without the right identity nothing is fetched, and digests need none", async () => {
  const dumped = await dump(CUSTOM, ZSTD, true);
  expect((await verify(dumped, undefined, false)).failure).toBeUndefined();
  const objects = join(folderOf(dumped), "db");
  await rename(objects, `${objects}-away`);
  const other = await makeAgeKey();
  await expect(verify(dumped, other.identityFile)).rejects.toMatchObject({
    reason: "IDENTITY_WRONG",
    message: expect.stringContaining(key.recipient) as unknown,
  });
  await expect(verify(dumped)).rejects.toMatchObject({ reason: "IDENTITY_MISSING" });
  expect((await verify(dumped, key.identityFile)).failure?.reason).toBe("OBJECT_MISSING");
  await rm(`${objects}-away`, { recursive: true });
});
