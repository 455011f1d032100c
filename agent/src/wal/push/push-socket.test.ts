import { expect, test } from "vitest";
import { openPushSocket } from "./push-socket.ts";

test("a path that no socket can have is named, with what to do", async () => {
  const opening = openPushSocket({
    folder: `/tmp/${"x".repeat(110)}`,
    owner: { uid: 0, gid: 0 },
    spool: "/nonexistent",
    mostBytes: () => 1,
    take: async () => undefined,
    signal: AbortSignal.timeout(1000),
  });
  await expect(opening).rejects.toMatchObject({
    reason: "DATA_FOLDER_UNUSABLE",
    message: expect.stringContaining("107 bytes") as unknown,
    hint: expect.stringContaining("--data-dir") as unknown,
  });
});
