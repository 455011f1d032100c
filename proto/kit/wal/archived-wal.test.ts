import { expect, test } from "vitest";
import { archivedWalProblem } from "./archived-wal.ts";

const stretch = { timeline: 2, startLsn: 0x2000028n, stopLsn: 0x4000120n, segmentBytes: 16n << 20n };
const segment = (index: number) => `0000000200000000${index.toString(16).toUpperCase().padStart(8, "0")}`;

test("files are all WAL of a stretch when each follows the one before it and the last one reaches its end", () => {
  const problem = (...names: string[]) => archivedWalProblem(names, stretch);
  expect(problem("00000002.history", segment(2), segment(3), segment(4))).toBeUndefined();
  expect(problem(segment(2), segment(3), `${segment(4)}.partial.0000000004000120`)).toBeUndefined();
  expect(problem()).toBe("the files that are named end at 0/2000000");
  expect(problem(segment(2), segment(3))).toBe("the files that are named end at 0/4000000");
  expect(problem(segment(2), segment(3), `${segment(4)}.partial.0000000004000100`)).toMatch(/end at 0\/4000100$/);
  expect(problem(segment(2), segment(4))).toBe(`${segment(4)} is named where WAL goes on at 0/3000000`);
  expect(problem(segment(3), segment(4))).toMatch(/goes on at 0\/2000000$/);
  expect(problem(segment(2).replace(/^00000002/, "00000001"))).toMatch(/goes on at 0\/2000000$/);
  expect(problem(segment(2), `${segment(3)}.partial.0000000003000100`, segment(4))).toMatch(/at 0\/3000100$/);
  expect(problem("base.tar")).toMatch(/^base.tar is named/);
});
