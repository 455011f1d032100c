import { expect, test } from "vitest";
import { firstFailure } from "./first-failure.ts";

const end = (name: string, exitCode: number | undefined, ...stderr: string[]) => ({
  name,
  cwd: "/",
  exitCode,
  signal: exitCode === undefined ? "SIGPIPE" : undefined,
  stderr,
  error: undefined,
});

test("the cause is who failed by itself, and of several who fell first", () => {
  const lostFile = "pg_dump: error: could not write to output file: Connection reset by peer";
  const lostPipe = "zstd: error 70 : Write error : Broken pipe (cannot write block)";
  const lostServer = "pg_dump: error: could not receive data from server: Connection reset by peer";
  const table: [ends: ReturnType<typeof end>[], exits: number[], cause: string | undefined][] = [
    [[end("a", 0), end("b", 0)], [0, 1], undefined],
    [[end("a", 1), end("b", 0)], [0, 1], "a"],
    [[end("a", undefined), end("b", 1)], [0, 1], "b"],
    [[end("a", 1, lostFile), end("b", 1)], [0, 1], "b"],
    [[end("a", 1, lostFile), end("b", 70, lostPipe), end("c", 1)], [0, 1, 2], "c"],
    [[end("a", 1, lostServer), end("b", 1)], [0, 1], "a"],
    [[end("a", 1, lostServer), end("b", 1)], [1, 0], "b"],
    [[end("a", undefined), end("b", undefined), end("c", 0)], [2, 1, 0], "b"],
  ];
  for (const [index, [ends, exits, cause]] of table.entries()) {
    expect(firstFailure(ends, exits, false)?.name, `row ${index}`).toBe(cause);
  }
});

test("where the last may stop early its producers may lose their reader, and nothing else", () => {
  expect(firstFailure([end("a", undefined), end("b", 0)], [1, 0], true)).toBeUndefined();
  expect(firstFailure([end("a", 1), end("b", 0)], [1, 0], true)?.name).toBe("a");
  expect(firstFailure([end("a", undefined), end("b", 1)], [1, 0], true)?.name).toBe("b");
});
