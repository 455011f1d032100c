import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanRepository } from "../../agent/src/repository/survey/clean.ts";
import { writeClusterFile } from "../../agent/src/repository/cluster-file.ts";
import { deleteBackup } from "../../agent/src/repository/delete.ts";
import { backupPrefix, recipeName } from "../../agent/src/repository/layout.ts";
import { commitManifest, storeStream, storeText } from "../../agent/src/repository/put.ts";
import { scanRepository } from "../../agent/src/repository/survey/scan.ts";
import { surveyRepository } from "../../agent/src/repository/survey/survey.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { whyNoCephLab } from "../support/ceph/lab.ts";
import type { StorageCall, StorageFault } from "../support/faults/fault-storage.ts";
import { sweepFaults, type SweptPlace } from "../support/faults/fault-sweep.ts";
import { type Repositories, repositoryKinds } from "../support/faults/repositories.ts";

const signal = AbortSignal.timeout(240_000);
const later = new Date(Date.now() + 3_600_000);
const kept = address("bkp_kept");
const other = address("bkp_other");
const abandoned = backupPrefix(address("bkp_abandoned"));
const foreignKey = "somebody/elses.file";

function address(backupId: string): BackupAddress {
  return create(BackupAddressSchema, {
    clusterId: "cls_a",
    folder: `20261121T013000Z_dump_${backupId.replace("bkp_", "bkp_0")}`,
    backupId,
  });
}

const text = (bytes: string) => Readable.from([Buffer.from(bytes)], { objectMode: false });

/** A committed backup of made-up bytes: its globals, a database of two objects, its recipe. */
async function store(storage: Storage, place: BackupAddress): Promise<void> {
  const prefix = backupPrefix(place);
  const storeOne = (name: string, bytes: string) =>
    storeStream(storage, {
      prefix,
      name,
      source: text(bytes),
      codec: "none",
      encrypted: false,
      limitBytes: 100,
      signal,
    });
  const time = timestampFromDate(new Date("2026-11-21T01:30:00Z"));
  const manifest = create(BackupManifestSchema, {
    formatVersion: 1,
    backupId: place.backupId,
    kind: BackupKind.DUMP,
    clusterId: place.clusterId,
    startTime: time,
    endTime: time,
    complete: true,
    recipe: await storeText(storage, { prefix, key: recipeName, text: "psql\n", signal }),
    content: {
      case: "dump",
      value: {
        globals: await storeOne("globals.sql", "create role a;"),
        databases: [{ oid: 1, name: "orders", format: "custom", stream: await storeOne("db/1.dump", "o".repeat(150)) }],
      },
    },
  });
  await commitManifest(storage, { prefix, manifest, signal });
}

/** Two backups, what a third one that never ended has left, and a file of somebody else. */
async function fill(storage: Storage): Promise<void> {
  await writeClusterFile(storage, create(ClusterFileSchema, { clusterId: "cls_a", name: "shop" }), signal);
  await store(storage, kept);
  await store(storage, other);
  for (const name of ["globals.sql.0000", "db/1.dump.0000", "db/2.dump.0000"])
    await storage.put(abandoned + name, text("left"), { signal, ifAbsent: true });
  await storage.put(foreignKey, text("not ours"), { signal, ifAbsent: true });
}

const keysBelow = async (storage: Storage, prefix: string) =>
  (await Array.fromAsync(storage.list(prefix, signal))).map(({ key }) => key);
const listed = async (storage: Storage) =>
  (await surveyRepository(storage, signal)).backups
    .filter(({ isCommitted }) => isCommitted)
    .map(({ folder }) => folder);
async function isWhole(storage: Storage, place: BackupAddress): Promise<boolean> {
  const { failure } = await verifyBackup(storage, place, { signal, onProgress: () => {} });
  return failure === undefined;
}
const clean = (storage: Storage) =>
  cleanRepository(storage, { before: later, keptFolders: [], isDryRun: false, signal });
/** As the catalog names them. */
const catalogued = ["globals.sql.0000", "db/1.dump.0000", "db/1.dump.0001", "RECOVER.txt"];

/** What changes something fails in each way that it can. */
function faultsOf({ method }: StorageCall): StorageFault[] {
  const cut: StorageFault = { is: "cut", afterBytes: 30 };
  if (method === "deleteMany" || method === "removeUnfinished")
    return [cut, { is: "refused" }, { is: "lost answer" }, { is: "gone from then on" }, { is: "done, then gone" }];
  if (method === "get" || method === "list") return [cut, { is: "refused" }];
  return [{ is: "refused" }];
}

describe.each([
  ["filesystem", undefined],
  ["s3", 4],
  ["ssh", 4],
] as const)("in a repository of kind %s", (kind, most) => {
  const unavailable = kind === "s3" ? whyNoCephLab() : undefined;
  const mostRuns = most === undefined ? {} : { mostRuns: most };
  let repositories: Repositories | undefined;
  beforeAll(async () => {
    if (unavailable === undefined) repositories = await repositoryKinds[kind]();
  });
  afterAll(() => repositories?.[Symbol.asyncDispose]());

  async function open(): Promise<SweptPlace> {
    const place = await repositories?.openEmpty("op_swept");
    if (!place) throw new Error("there are no repositories");
    await fill(place.storage);
    return place;
  }

  /** What nobody asked to touch. */
  async function judgeOthers(storage: Storage): Promise<void> {
    expect(await isWhole(storage, kept)).toBe(true);
    expect(await keysBelow(storage, "somebody/")).toEqual([foreignKey]);
  }

  test("a deletion that the repository breaks off leaves the backup whole or listed no more, and can be repeated", async ({
    skip,
  }) => {
    if (unavailable !== undefined) skip(unavailable);
    const report = await sweepFaults({
      open,
      run: async (_place, storage) => void (await deleteBackup(storage, other, catalogued, signal)),
      faults: faultsOf,
      ...mostRuns,
      async judge({ place: { storage } }) {
        const isListed = (await listed(storage)).includes(other.folder);
        expect(isListed).toBe(await isWhole(storage, other));
        await judgeOthers(storage);
        // As settling does: the manifest tells whether it began.
        await deleteBackup(storage, other, isListed ? [] : catalogued, signal);
        expect(await keysBelow(storage, backupPrefix(other))).toEqual([]);
        await judgeOthers(storage);
      },
    });
    expect(report.findings).toEqual([]);
    expect(report.calls.map(({ method }) => method)).toEqual([
      "get",
      "deleteMany",
      "deleteMany",
      "listUnfinished",
      "removeUnfinished",
    ]);
  });

  test("a deletion that was broken off and is never repeated leaves what cleaning finds and removes", async ({
    skip,
  }) => {
    if (unavailable !== undefined) skip(unavailable);
    await using place = await open();
    const { storage } = place;
    await storage.deleteMany([`${backupPrefix(other)}manifest.json`, `${backupPrefix(other)}RECOVER.txt`], signal);
    const { leavings } = await clean(storage);
    expect(leavings.filter((leaving) => leaving.includes(other.folder))).toHaveLength(1);
    expect(await keysBelow(storage, backupPrefix(other))).toEqual([]);
    await judgeOthers(storage);
  });

  test("a cleaning that the repository breaks off takes nothing that is a backup or somebody else's, and can be repeated", async ({
    skip,
  }) => {
    if (unavailable !== undefined) skip(unavailable);
    const report = await sweepFaults({
      open,
      run: async (_place, storage) => void (await clean(storage)),
      faults: faultsOf,
      ...mostRuns,
      async judge({ place: { storage } }) {
        expect(await isWhole(storage, other)).toBe(true);
        await judgeOthers(storage);
        await clean(storage);
        expect(await keysBelow(storage, abandoned)).toEqual([]);
        expect((await listed(storage)).length).toBe(2);
      },
    });
    expect(report.findings).toEqual([]);
  });

  test("a scan that the repository breaks off says so, and never that there is less than there is", async ({
    skip,
  }) => {
    if (unavailable !== undefined) skip(unavailable);
    await using place = await open();
    const report = await sweepFaults({
      open: async () => ({ storage: place.storage, async [Symbol.asyncDispose]() {} }),
      async run(_place, storage) {
        const found = await scanRepository(storage, {
          knownFolders: [],
          activeFolders: [],
          signal,
          onProgress: () => {},
        });
        // What cannot be read is named, and whoever reads the answer sees it.
        const [unreadable] = found.unreadable;
        if (unreadable !== undefined) throw new Failure("MANIFEST_UNREADABLE", unreadable);
        expect(found.backups.length).toBe(2);
      },
      faults: faultsOf,
      ...mostRuns,
      judge: async ({ place: { storage } }) => judgeOthers(storage),
    });
    expect(report.findings).toEqual([]);
    expect(report.calls.filter(({ method }) => method === "get")).toHaveLength(5);
  });
});
