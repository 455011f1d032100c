import { afterEach, expect, test, vi } from "vitest";
import { runCommandLine } from "./command-line.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

async function run(...args: string[]): Promise<{ code: number; said: string }> {
  let said = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    said += String(text);
    return true;
  });
  return { code: await runCommandLine(args), said };
}

const restore = ["restore", "shop", "--repo", "/nowhere", "--to", "/run/postgresql"];

test("a flag that takes one value is refused when it is given twice, and named", async () => {
  const { code, said } = await run(...restore, "--database", "a", "--database", "b");
  expect([code, said]).toEqual([2, expect.stringContaining("✗ --database is given more than once")]);
  expect((await run("ls", "--repo", "/nowhere", "--repo", "/elsewhere")).code).toBe(2);
});

test("an empty value or argument is refused and named", async () => {
  const { code, said } = await run(...restore, "--as", "");
  expect([code, said]).toEqual([2, expect.stringContaining("✗ --as is given and empty")]);
  expect(await run("verify", "", "--repo", "/nowhere")).toMatchObject({ code: 2 });
});
