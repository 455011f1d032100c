import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ScannedServerSchema } from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { expect, test } from "vitest";
import { walKey } from "../../repository/layout.ts";
import { openFilesystem } from "../../storage/filesystem.ts";
import { scanWal } from "./scan-wal.ts";

test("a history that is encrypted is told from one that is damaged, where no identity was given", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-scan-wal-"));
  try {
    const storage = await openFilesystem(folder, "op_scan");
    const place = { clusterId: "cls_a", systemIdentifier: "7300000000000000001" };
    const file = join(folder, walKey(place, "00000002.history"));
    await mkdir(dirname(file), { recursive: true });
    const servers = [create(ScannedServerSchema, { ...place, segmentBytes: 16_777_216n })];
    const scan = () => scanWal(storage, { servers, identities: undefined, signal: AbortSignal.timeout(10_000) });
    await writeFile(file, "age-encryption.org/v1\n");
    const encrypted = await scan();
    expect(encrypted.undecrypted).toBe(true);
    expect(encrypted.problems).toEqual([
      expect.stringMatching(/00000002\.history: it is encrypted, and this host was given no identity to read it; /),
    ]);
    await writeFile(file, "torn");
    const damaged = await scan();
    expect(damaged.undecrypted).toBe(false);
    expect(damaged.problems).toHaveLength(1);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
