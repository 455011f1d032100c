import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { seeScratch } from "./scratch-folder.ts";

test("a scratch folder in a place that cannot be looked into is refused with what to do", async () => {
  const around = await mkdtemp(join(tmpdir(), "coppice-scratch-"));
  try {
    await writeFile(join(around, "file"), "");
    for (const parent of [join(around, "file", "below"), join(around, "x".repeat(300))]) {
      const folder = join(parent, "coppice-1");
      const places = { folder, data: join(folder, "data"), socketFolder: join(folder, "run"), dump: join(folder, "d") };
      await expect(seeScratch(places, AbortSignal.timeout(10_000))).rejects.toMatchObject({
        reason: "FILE_NOT_WRITABLE",
        hint: "let the agent's user write there, or name another folder",
      });
    }
  } finally {
    await rm(around, { recursive: true });
  }
});
