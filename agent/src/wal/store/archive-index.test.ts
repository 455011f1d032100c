import { mkdir, mkdtemp, rmdir, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { expect, test } from "vitest";
import { openArchiveIndex } from "./archive-index.ts";

const size = 1n << 20n;
const stored = (number: number) => ({
  name: segmentName(1, BigInt(number) * size, size),
  sha256: "ab".repeat(32),
  run: { timeline: 1, startLsn: BigInt(number) * size, endLsn: BigInt(number + 1) * size },
});

test("what is added counts, also where the index cannot be made shorter, which is done when it can", async () => {
  const path = join(await mkdtemp(join(tmpdir(), "coppice-index-")), "index");
  const add = async (from: number, to: number) => {
    await using index = await openArchiveIndex(path);
    const numbers = Array.from({ length: to - from }, (_, each) => from + each);
    await Promise.all(numbers.map((number) => index.add(stored(number))));
    await index.add(stored(to));
  };
  await mkdir(`${path}.new`);
  await add(1, 10_000);
  const long = (await stat(path)).size;
  await rmdir(`${path}.new`);
  await add(10_001, 20_001);
  expect((await stat(path)).size).toBeLessThan(long);
  await using index = await openArchiveIndex(path);
  expect(index.extents).toEqual([{ timeline: 1, startLsn: size, endLsn: 20_002n * size }]);
  expect(index.digestOf(stored(20_001).name)).toBe(stored(0).sha256);
  expect(index.digestOf(stored(1).name)).toBeUndefined();
});
