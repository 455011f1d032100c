// Archived WAL that nothing needs is deleted while the repository fails in each way that it can, or the program is killed:
// what is needed is never touched, nothing is said to be gone that is not, and a repetition ends it.
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { isFailure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { walAnchorKey, walClaimPrefix, walKey } from "../../agent/src/repository/layout.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { deleteUnneeded, requireKnownBackups } from "../../agent/src/wal/cleanup/delete-unneeded.ts";
import { findUnneeded } from "../../agent/src/wal/cleanup/find-unneeded.ts";
import { whyNoCephLab } from "../support/ceph/lab.ts";
import type { StorageCall, StorageFault } from "../support/faults/fault-storage.ts";
import { sweepFaults, type SweptPlace } from "../support/faults/fault-sweep.ts";
import { type Repositories, repositoryKinds } from "../support/faults/repositories.ts";

const signal = AbortSignal.timeout(240_000);
const place = { clusterId: "cls_a", systemIdentifier: "7312345678901234567" };
const segmentBytes = 16n << 20n;
const at = (segment: number) => BigInt(segment) * segmentBytes;
const nameOf = (segment: number, timeline = 1) =>
  `0000000${timeline}00000000${segment.toString(16).toUpperCase().padStart(8, "0")}`;
const partOf = (segment: number) =>
  `${nameOf(segment)}.partial.${(at(segment) + 100n).toString(16).toUpperCase().padStart(16, "0")}`;
const sha = "a".repeat(64);

const keys = {
  doomed: [1, 2, 3].map((segment) => walKey(place, nameOf(segment))),
  doomedPart: walKey(place, partOf(3)),
  /** Its whole segment is stored. */
  replaced: walKey(place, partOf(5)),
  /** A backup names it. */
  named: walKey(place, partOf(6)),
  /** There is nothing else of the segment. */
  last: walKey(place, partOf(8)),
  kept: [4, 5, 6, 7].map((segment) => walKey(place, nameOf(segment))),
  other: walKey(place, nameOf(2, 2)),
  history: walKey(place, "00000002.history"),
  backupHistory: walKey(place, `${nameOf(2)}.00000028.backup`),
  doomedClaim: `${walClaimPrefix(place, nameOf(2))}${sha}`,
  keptClaim: `${walClaimPrefix(place, nameOf(5))}${sha}`,
  doomedAnchor: walAnchorKey(place, { timeline: 1, lsn: at(3), timeUs: 10n }),
  keptAnchor: walAnchorKey(place, { timeline: 1, lsn: at(5), timeUs: 20n }),
  /** The clock was set back after it. */
  lateAnchor: walAnchorKey(place, { timeline: 1, lsn: at(2), timeUs: 30n }),
  manifest: "cls_a/backups/20261121T013000Z_full_bkp_0kept/manifest.json",
};
const doomed = [...keys.doomed, keys.doomedPart, keys.replaced, keys.doomedClaim, keys.doomedAnchor];
const all = Object.values(keys).flat();

const wal = {
  place,
  segmentBytes,
  runs: [{ timeline: 1, startLsn: at(1), endLsn: at(4) }],
  keptNames: new Set([partOf(6)]),
};
const knownFolders = ["20261121T013000Z_full_bkp_0kept"];

async function fill(storage: Storage): Promise<void> {
  for (const key of all)
    await storage.put(key, Readable.from([Buffer.from("bytes")], { objectMode: false }), { signal, ifAbsent: true });
}

async function clean(storage: Storage): Promise<void> {
  const found = await findUnneeded(storage, wal, signal);
  await requireKnownBackups(storage, { clusterId: "cls_a", knownFolders }, signal);
  await deleteUnneeded(storage, wal, found, { signal, onDeleted: () => {} });
}

const listed = async (storage: Storage) =>
  (await Array.fromAsync(storage.list("cls_a/", signal))).map(({ key }) => key).toSorted();
const rest = all.filter((key) => !doomed.includes(key)).toSorted();

/** What changes something fails in each way that it can. */
function faultsOf({ method }: StorageCall): StorageFault[] {
  if (method === "deleteMany")
    return [
      { is: "cut", afterBytes: 30 },
      { is: "refused" },
      { is: "lost answer" },
      { is: "gone from then on" },
      { is: "done, then gone" },
    ];
  return [{ is: "cut", afterBytes: 30 }, { is: "refused" }];
}

describe.each([
  ["filesystem", undefined],
  ["s3", 2],
] as const)("in a repository of kind %s", (kind, most) => {
  const unavailable = kind === "s3" ? whyNoCephLab() : undefined;
  let repositories: Repositories | undefined;
  beforeAll(async () => {
    if (unavailable === undefined) repositories = await repositoryKinds[kind]();
  });
  afterAll(() => repositories?.[Symbol.asyncDispose]());

  async function open(): Promise<SweptPlace> {
    const opened = await repositories?.openEmpty("op_swept");
    if (!opened) throw new Error("there are no repositories");
    await fill(opened.storage);
    return opened;
  }

  test("a deletion that the repository breaks off touches nothing that is needed, and can be repeated", async ({
    skip,
  }) => {
    if (unavailable !== undefined) skip(unavailable);
    const { findings, calls } = await sweepFaults({
      open,
      run: async (_place, storage) => clean(storage),
      faults: faultsOf,
      ...(most === undefined ? {} : { mostRuns: most }),
      async judge({ place: { storage } }) {
        const there = await listed(storage);
        expect(there).toEqual(expect.arrayContaining(rest));
        await clean(storage);
        expect(await listed(storage)).toEqual(rest);
        await clean(storage);
        expect(await listed(storage)).toEqual(rest);
      },
    });
    expect(findings).toEqual([]);
    expect(calls.map(({ method }) => method)).toEqual(["list", "list", "deleteMany", "list"]);
  });

  test("nothing is deleted while there is a physical backup that nobody has told of", async ({ skip }) => {
    if (unavailable !== undefined) skip(unavailable);
    await using opened = await open();
    const { storage } = opened;
    const unknown = "cls_a/backups/20261122T013000Z_incr_bkp_0new/manifest.json";
    await storage.put(unknown, Readable.from([Buffer.from("{}")]), { signal, ifAbsent: true });
    const failure = await clean(storage).catch((error: unknown) => error);
    expect(isFailure(failure, "BACKUPS_UNKNOWN")).toBe(true);
    expect(await listed(storage)).toEqual([...all, unknown].toSorted());
    await storage.deleteMany([unknown], signal);
    await storage.put(unknown.replace("_incr_", "_dump_"), Readable.from([Buffer.from("{}")]), {
      signal,
      ifAbsent: true,
    });
    await clean(storage);
    expect(await listed(storage)).toEqual([...rest, unknown.replace("_incr_", "_dump_")].toSorted());
  });
});

test("killed after any number of objects, what is needed is there, and a repetition ends it", async () => {
  const program = new URL("../support/wal/clean-and-die.ts", import.meta.url).pathname;
  const folder = await mkdtemp(join(tmpdir(), "coppice-clean-"));
  try {
    await using storage = await openFilesystem(folder, "op_test");
    await fill(storage);
    const without = [...doomed, keys.named];
    for (const [objects, isKilled] of [
      [1, true],
      [4, true],
      [9, false],
    ] as const) {
      const args = [folder, place.clusterId, place.systemIdentifier, String(at(4)), String(objects)];
      const { signal: killedBy, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
      const there = await listed(storage);
      expect(there, stderr).toEqual(expect.arrayContaining(rest.filter((key) => !without.includes(key))));
      expect(killedBy, stderr).toBe(isKilled ? "SIGKILL" : null);
      expect(there.some((key) => without.includes(key))).toBe(isKilled);
    }
    await clean(storage);
    expect((await listed(storage)).filter((key) => doomed.includes(key))).toEqual([]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
