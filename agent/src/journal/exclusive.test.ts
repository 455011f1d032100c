import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { claimFolder } from "./exclusive.ts";

test("a folder belongs to one agent at a time, under whatever name it is reached", async () => {
  const parent = await mkdtemp(join(tmpdir(), "coppice-claim-"));
  await using cleaning = new AsyncDisposableStack();
  cleaning.defer(() => rm(parent, { recursive: true }));
  await symlink(parent, join(parent, "alias"));
  {
    await using _claim = await claimFolder(parent);
    await expect(claimFolder(join(parent, "alias"))).rejects.toMatchObject({ reason: "AGENT_RUNNING" });
  }
  await using _claim = await claimFolder(parent);
});
