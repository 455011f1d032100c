import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { afterEach, beforeEach, expect, test } from "vitest";
import { walKey } from "../../repository/layout.ts";
import { unseen } from "../../storage/look-if-allowed.ts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";
import { isStored } from "./is-stored.ts";

const { signal } = new AbortController();
const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "7312" };
const segmentBytes = 16n << 20n;
const listed = { place, segmentBytes, signal };
/** Positions in segments. */
const at = (segments: number) => BigInt(segments * Number(segmentBytes));
let folder: string;
let storage: Storage;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-stored-"));
  const location = create(RepositoryLocationSchema, { kind: { case: "filesystem", value: { path: folder } } });
  storage = await openStorage(location, { operationId: "op_1", signal, credentials: {} });
});
afterEach(async () => {
  await storage[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

/** A server on timeline 1, or on 2, which grew out of it in segment 5. */
const serverOn = (timeline: number, lsn = at(9.5)) => ({
  identify: async () => ({ ...place, timeline, lsn }),
  timelineHistory: async () => ({ fileName: "", content: Buffer.from(`1\t${formatLsn(at(5.5))}\tpromoted\n`) }),
});

async function put(timeline: number, segments: readonly number[]): Promise<void> {
  for (const one of segments) {
    const key = walKey(place, segmentName(timeline, at(one), segmentBytes));
    await storage.put(key, Readable.from([Buffer.from("x")]), { signal, ifAbsent: true });
  }
}

interface Held {
  readonly one: readonly number[];
  readonly two?: readonly number[];
  readonly from: number;
  readonly to?: number;
}

test.each<[string, Held, boolean]>([
  ["nothing is needed", { one: [], from: 3, to: 3 }, true],
  ["nothing that is full", { one: [], from: 9.25 }, true],
  ["without a hole", { one: [3, 4, 5, 6, 7, 8], from: 3.5, to: 8 }, true],
  ["up to the segment that the server is in", { one: [3, 4, 5, 6, 7, 8], from: 3.5 }, true],
  ["not yet so far", { one: [3, 4, 5], from: 3.5, to: 8 }, false],
  ["a hole at the position", { one: [1, 2, 6, 7, 8], from: 3, to: 8 }, false],
  ["a hole between", { one: [3, 4, 6, 7, 8], from: 3.5, to: 8 }, false],
  ["a hole behind", { one: [3, 4, 5, 8], from: 3.5, to: 5 }, false],
  ["a hole before", { one: [1, 3, 4, 5], from: 3.5, to: 5 }, true],
  ["on two timelines", { one: [3, 4], two: [5, 6, 7, 8], from: 3.5, to: 8 }, true],
  ["on a timeline that the server has left", { one: [3, 4, 5, 6, 7, 8], two: [8], from: 3.5, to: 8 }, false],
])("%s", async (_, { one, two, from, to }, expected) => {
  await put(1, one);
  await put(2, two ?? []);
  const of = { fromLsn: at(from), toLsn: to === undefined ? to : at(to), listed };
  expect(await isStored(storage, serverOn(two === undefined ? 1 : 2), of)).toBe(expected);
});

test("a host that may only put there cannot tell", async () => {
  const capabilities = { ...storage.capabilities, comparesPuts: true };
  const list = () => fail("REPOSITORY_NOT_READABLE", "no");
  const hidden = Object.assign(Object.create(storage) as Storage, { capabilities, list });
  expect(await isStored(hidden, serverOn(1), { fromLsn: at(3), toLsn: at(8), listed })).toBe(unseen);
});
