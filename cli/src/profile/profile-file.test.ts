import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readProfileFile, writeProfileFile } from "./profile-file.ts";

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "coppice-profile-"));
});
afterEach(() => rm(home, { recursive: true }));

const profile = { address: "https://a:1", caFingerprint: `sha256:${"0".repeat(64)}`, token: "cop_x" };

test("what was written is read back, and only its owner may read it", async () => {
  const folder = join(home, "coppice");
  await writeProfileFile(folder, { contexts: { home: profile }, current: "home" });
  expect(await readProfileFile(folder)).toEqual({ contexts: { home: profile }, current: "home" });
  expect((await stat(join(folder, "config.yaml"))).mode & 0o777).toBe(0o600);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
});

test("no file and an empty file hold no contexts", async () => {
  expect(await readProfileFile(home)).toEqual({ contexts: {}, current: undefined });
  await writeFile(join(home, "config.yaml"), "");
  expect(await readProfileFile(home)).toEqual({ contexts: {}, current: undefined });
});

test("a file that cannot be read as one is refused without quoting its token", async () => {
  for (const text of [
    "contexts: {home: {token: cop_secret, address: [}",
    "contexts: {home: {token: 7}}",
    "cop_secret",
  ]) {
    await writeFile(join(home, "config.yaml"), text);
    const failure: unknown = await readProfileFile(home).catch((error: unknown) => error);
    expect(failure, text).toMatchObject({ reason: "CONFIGURATION_INVALID" });
    expect(String(failure)).not.toContain("cop_secret");
    expect(await readFile(join(home, "config.yaml"), "utf8")).toBe(text);
  }
});
