import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { WalGrantSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { afterEach, beforeEach, expect, test } from "vitest";
import { walGrantKey, walGrantPrefix } from "../../repository/layout.ts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";
import { openArchiveIndex } from "./archive-index.ts";
import { findStored } from "./find-stored.ts";
import { openGrantCheck, requireGrantedTimeline } from "./grant.ts";

const { signal } = new AbortController();
const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "7312" };
const refused = expect.objectContaining({ reason: "WAL_NOT_GRANTED" }) as Error;
let folder: string;
let storage: Storage;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-grant-"));
  const location = create(RepositoryLocationSchema, { kind: { case: "filesystem", value: { path: folder } } });
  storage = await openStorage(location, { operationId: "op_1", signal, credentials: {} });
});
afterEach(async () => {
  await storage[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const grant = (number: bigint, firstTimeline = 0) => create(WalGrantSchema, { number, firstTimeline });
const check = (number: bigint, everyMs: number) => openGrantCheck({ ...place, grant: grant(number) }, everyMs);
const keys = async () =>
  (await Array.fromAsync(storage.list(walGrantPrefix(place), signal))).map(({ key }) => key).toSorted();

test("a writer goes on until a later grant lies in the repository, and then no more, nor does one without a number", async () => {
  const old = check(5n, 0);
  await old.require(storage, signal);
  await old.require(storage, signal);
  expect(await keys()).toEqual([walGrantKey(place, 5n)]);
  const young = check(7n, 0);
  await young.require(storage, signal);
  await expect(old.require(storage, signal)).rejects.toThrow(refused);
  await expect(openGrantCheck({ ...place, grant: undefined }).require(storage, signal)).rejects.toThrow(refused);
  await young.require(storage, signal);
  expect(await keys()).toEqual([walGrantKey(place, 5n), walGrantKey(place, 7n)]);
});

test("what was looked at a moment ago is not looked at for each segment", async () => {
  const old = check(5n, 60_000);
  await Promise.all([old.require(storage, signal), old.require(storage, signal)]);
  await check(7n, 0).require(storage, signal);
  await old.require(storage, signal);
  await expect(check(5n, 60_000).require(storage, signal)).rejects.toThrow(refused);
});

test("an archive by no grant leaves nothing in the repository", async () => {
  await openGrantCheck({ ...place, grant: undefined }).require(storage, signal);
  expect(await keys()).toEqual([]);
});

test("a server on an older timeline than the archive had come to is refused", () => {
  requireGrantedTimeline({ grant: undefined }, 1);
  requireGrantedTimeline({ grant: grant(1n, 2) }, 2);
  requireGrantedTimeline({ grant: grant(1n, 2) }, 3);
  expect(() => requireGrantedTimeline({ grant: grant(1n, 2) }, 1)).toThrow(refused);
});

test("an index asks the repository when it is empty and when it is of another grant, and not again", async () => {
  await using index = await openArchiveIndex(join(folder, "index"));
  const run = (startLsn: bigint, endLsn: bigint) => ({ timeline: 1, startLsn, endLsn });
  const find = (number: bigint, ...found: ReturnType<typeof run>[]) =>
    findStored(index, { folder, grant: grant(number), list: async () => found });
  expect(await find(5n, run(1n, 3n))).toBe(true);
  expect(await find(5n, run(1n, 9n))).toBe(false);
  expect(index.extents).toEqual([run(1n, 3n)]);
  // Meanwhile another agent has stored more.
  expect(await find(7n, run(1n, 9n))).toBe(true);
  expect(await find(7n)).toBe(false);
  expect(index.extents).toEqual([run(1n, 9n)]);
});
