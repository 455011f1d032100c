// A host whose key may only put, on a real S3 server: it backs up and archives, or is refused before anything is stored
// by the right that is missing; another host, which may read, finds all of it whole.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { PutBucketPolicyCommand } from "@aws-sdk/client-s3";
import type { BackupPhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { dumpCluster } from "../../agent/src/logical/dump/dump.ts";
import { openPhysicalCheck } from "../../agent/src/physical/verify/open-physical-check.ts";
import { backupPrefix } from "../../agent/src/repository/layout.ts";
import { commitManifest } from "../../agent/src/repository/put.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { fetchWal } from "../../agent/src/wal/fetch/fetch-wal.ts";
import { openPress } from "../../agent/src/wal/press/press.ts";
import type { HeldStorage } from "../../agent/src/wal/push/held-storage.ts";
import { storeOffered } from "../../agent/src/wal/push/store-offered.ts";
import { openFollow } from "../../agent/src/wal/set-back/follow.ts";
import { openArchiveIndex } from "../../agent/src/wal/store/archive-index.ts";
import { openGrantCheck } from "../../agent/src/wal/store/grant.ts";
import type { CephUser } from "../support/ceph/cluster.ts";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket, ownerClient } from "../support/ceph/s3-place.ts";
import { openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { expectSame, receives, watchArchive, writeSegments } from "../support/wal/running-archive.ts";

const segmentBytes = 16n << 20n;
const unavailable = whyNoCephLab();
const stack = new AsyncDisposableStack();
const signal = AbortSignal.timeout(240_000);
let ceph: CephLab;
let server: PostgresServer;
let backups: PhysicalLab;
let location: S3Location;
/** What the protected host has, and what another one has. */
let host: Storage;
let other: Storage;

beforeAll(async () => {
  if (unavailable !== undefined) return;
  [ceph, server] = await Promise.all([openCephLab(), openPostgresServer({ major: 18 })]);
  stack.use(server);
  backups = stack.use(await openPhysicalLab(server));
  location = await newBucket(ceph, { prefix: "prod" });
  const reader = await ceph.addUser("reads-elsewhere");
  // There whoever has put an object may read it, unless that is denied.
  await setPolicy([
    ["Allow", ceph.writer, ["s3:PutObject"]],
    ["Deny", ceph.writer, ["s3:GetObject", "s3:DeleteObject"]],
    ["Allow", reader, ["s3:GetObject", "s3:ListBucket"]],
  ]);
  const open = async (user: CephUser) =>
    stack.use(await openS3(location, { operationId: "op_lab", credentials: { write: credentialOf(user) }, signal }));
  [host, other] = [await open(ceph.writer), await open(reader)];
  await server.sql("postgres", "create table items as select i, md5(i::text) from generate_series(1, 20000) i");
}, 120_000);
afterAll(() => stack.disposeAsync());
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});

async function setPolicy(rights: readonly (readonly [Effect: string, CephUser, Action: string[]])[]): Promise<void> {
  const arn = `arn:aws:s3:::${location.bucket}`;
  const Statement = rights.map(([Effect, { name }, Action]) => ({
    Effect,
    Principal: { AWS: [`arn:aws:iam:::user/${name}`] },
    Action,
    Resource: [arn, `${arn}/*`],
  }));
  const Policy = JSON.stringify({ Version: "2012-10-17", Statement });
  const client = ownerClient(ceph);
  await client.send(new PutBucketPolicyCommand({ Bucket: location.bucket, Policy }));
  client.destroy();
}

const keys = async () => (await Array.fromAsync(other.list("", signal))).map(({ key }) => key);
const verify = (command: BackupPhysicalCommand & { backup: Parameters<typeof verifyBackup>[1] }) =>
  verifyBackup(other, command.backup, {
    signal,
    onProgress: () => {},
    openContent: async (manifest) =>
      openPhysicalCheck(manifest, { identities: undefined, signal }) ?? Promise.reject(new Error("it is none")),
  });

test("what leaves its WAL to an archive that may not be read is refused before anything is stored", async () => {
  const command = backups.command({ walEmbedded: false });
  if (command.backup.repository) command.walRepository = command.backup.repository;
  await expect(backups.take(command, { storage: host })).rejects.toMatchObject({
    reason: "REPOSITORY_NOT_READABLE",
    message: expect.stringContaining("s3:GetObject is refused") as string,
    hint: expect.stringContaining("--wal embedded") as string,
  });
  expect(await keys()).toEqual([]);
});

test("a full backup with its WAL in it is taken by a key that may only put, and is whole for who may read", async () => {
  for (const clusterFileExpected of [false, true]) {
    const command = Object.assign(backups.command(), { clusterFileExpected });
    const { manifest } = await backups.take(command, { storage: host });
    expect(backups.log.join("\n")).toContain("this host may not read in");
    const { result, failure } = await verify(command);
    expect([failure, result.problems]).toEqual([undefined, []]);
    expect(await keys()).toContain("cls_test/cluster.json");
    // The same again meets its own manifest, and nobody here can tell that it is the same.
    if (!manifest) throw new Error("it has no manifest");
    const again = { prefix: backupPrefix({ clusterId: "cls_test", folder: command.backup.folder }), manifest, signal };
    await expect(commitManifest(host, again)).rejects.toMatchObject({ reason: "OUTCOME_UNKNOWN" });
    expect((await commitManifest(other, again)).sizeBytes).toBeGreaterThan(0);
  }
  expect(backups.leavings).toEqual([]);
});

test("dumps are taken by it too, and objects of several parts are stored", async () => {
  await using dumps = await openDumpLab(server);
  const backup = { ...dumps.address(), clusterId: "cls_dumped" };
  const log: string[] = [];
  const { result } = await dumpCluster({
    command: Object.assign(dumps.dumpCommand({ databases: ["postgres"] }), { backup }),
    operationId: "op_lab",
    agentVersion: "0.0.0-test",
    password: server.password,
    files: dumps.files,
    storage: host,
    signal,
    onProgress: () => {},
    log: (line) => log.push(line),
    onLeaving: (leaving) => log.push(`leaving: ${leaving}`),
  });
  expect(result.manifest?.complete).toBe(true);
  expect(log.join("\n")).toContain("this host may not read in");
  const { failure } = await verifyBackup(other, backup, { signal, onProgress: () => {} });
  expect(failure).toBeUndefined();
  const bytes = Buffer.alloc(9 << 20, "0123456789");
  await host.put("large", Readable.from([bytes], { objectMode: false }), { signal, ifAbsent: true });
  expect(await other.stat("large", signal)).toMatchObject({ sizeBytes: bytes.length });
});

test("WAL is archived by such a key from its beginning on, and goes on by the index of the host", async () => {
  const place = { location: { case: "s3" as const, value: location }, credential: credentialOf(ceph.writer) };
  await using lab = await openArchiveLab(server, { place });
  const fetch = async (name: string) => {
    const path = join(lab.folder, name);
    return (await fetchWal(other, { place: lab.archive, name, signal }, path)) ? await readFile(path) : undefined;
  };
  lab.archive.nothingArchived = true;
  let first: bigint;
  {
    await using archive = watchArchive(lab);
    await receives(server);
    first = await writeSegments(server, 2);
    await archive.stored(first);
  }
  // As told later, when the catalog knows of it: the host goes by what it has written down.
  lab.archive.nothingArchived = false;
  {
    await using archive = watchArchive(lab);
    const end = await writeSegments(server, 1);
    await archive.stored(end);
    expect(archive.troubles(), formatLsn(end)).toEqual([]);
    const [extent] = archive.extents();
    if (!extent) throw new Error("nothing was archived");
    expect(await expectSame({ ...lab, fetch }, server, { ...extent, startLsn: first - 2n * segmentBytes })).toBe(3);
  }
  // A host that knows of nothing does not take it for its own.
  await using lost = watchArchive(lab, join("state", "of-another"));
  await lost.inTrouble("REPOSITORY_NOT_READABLE");
});

test("what archive_command offers once more is known by the index, and without that it is a conflict and stays", async () => {
  await using lab = await openArchiveLab(server);
  const { systemIdentifier } = lab.archive;
  const written = "select pg_walfile_name(pg_logical_emit_message(true, 'test', 'written'))";
  const name = (await server.sql("postgres", written)).trim();
  await server.sql("postgres", "select pg_switch_wal()");
  const path = join(server.dataDir, "pg_wal", name);
  const offer = async (index: string) => {
    await using opened = await openArchiveIndex(join(lab.folder, index));
    await using press = openPress();
    const storage: HeldStorage = { use: (work) => work(host), [Symbol.asyncDispose]: () => Promise.resolve() };
    const place = { clusterId: "cls_pushed", systemIdentifier };
    const beside = { folder: lab.folder, beyond: [], segmentBytes, hasArchived: () => Promise.resolve(false) };
    return await storeOffered(
      { path, name, uid: undefined },
      {
        storage,
        index: opened,
        follow: openFollow({ ...beside, storage, index: opened, place, signal }),
        place,
        server: { systemIdentifier, segmentBytes },
        encoding: { level: 1, recipients: [] },
        grant: openGrantCheck({ clusterId: "cls_pushed", systemIdentifier }),
        press,
        signal,
      },
    );
  };
  for (const _again of [1, 2]) expect((await offer("own")).run.endLsn).toBeGreaterThan(0n);
  await expect(offer("lost")).rejects.toMatchObject({ reason: "WAL_CONFLICT" });
});
