import { spawn } from "node:child_process";
import { once } from "node:events";
import { access } from "node:fs/promises";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { openPostgresServer } from "./postgres-servers.ts";

test.each([15, 18] as const)(
  "a throwaway server of PostgreSQL %i answers by psql and survives kill -9",
  async (major) => {
    await using server = await openPostgresServer({ major, settings: { work_mem: "5MB" } });
    const odd = "it's = odd\n🌲";
    await server.sql("postgres", `create database "${odd}"`);
    await server.sql(odd, "create table t as select generate_series(1, 10) as id");
    await server.stop("kill");
    await server.start();
    expect(await server.sql(odd, "select count(*) from t; show work_mem")).toBe("10\n5MB");
    expect(await server.sql("postgres", "show server_version")).toMatch(new RegExp(`^${major}\\.`));
    await expect(server.sql("postgres", "select 1/0")).rejects.toThrow("division by zero");
  },
);

test("a server ends with the process that opened it, even by kill -9, and its folder goes with the next one", async () => {
  const harness = new URL("postgres-servers.ts", import.meta.url).href;
  const script = `const { openPostgresServer } = await import(${JSON.stringify(harness)});
    const server = await openPostgresServer({ major: 18 });
    console.log(server.dataDir);
    console.log(server.port);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const dataDir = String((await lines.next()).value);
  const port = Number((await lines.next()).value);
  await access(dataDir);
  child.kill("SIGKILL");
  await once(child, "exit");
  const refused = async () => {
    try {
      await fetch(`http://127.0.0.1:${port}`);
    } catch (error) {
      return error instanceof Error && String(error.cause).includes("ECONNREFUSED");
    }
    return false;
  };
  await expect.poll(refused, { timeout: 10_000 }).toBe(true);

  const next = spawn(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      `const { openPostgresServer } =
    await import(${JSON.stringify(harness)}); await using server = await openPostgresServer({ major: 18 });`,
    ],
    {
      stdio: "inherit",
    },
  );
  expect(await once(next, "exit")).toEqual([0, null]);
  await expect(access(dataDir)).rejects.toThrow("ENOENT");
});
