import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { ScannedServerSchema } from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { expect, test } from "vitest";
import { makeAgeKey } from "../../../../tests/support/dumps/age-key.ts";
import { walKey } from "../../repository/layout.ts";
import { openFilesystem } from "../../storage/filesystem.ts";
import { encryptWal } from "../store/wal-codec.ts";
import { scanWal } from "./scan-wal.ts";

test("a history that is encrypted is told from one that is damaged, and WAL that no backup leads into is left out", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-scan-wal-"));
  try {
    const storage = await openFilesystem(folder, "op_scan");
    const place = { clusterId: "cls_a", systemIdentifier: "7300000000000000001" };
    const file = join(folder, walKey(place, "00000002.history"));
    await mkdir(dirname(file), { recursive: true });
    const servers = [create(ScannedServerSchema, { ...place, segmentBytes: 16_777_216n })];
    const scan = (identities?: string) =>
      scanWal(storage, { servers, identities, signal: AbortSignal.timeout(10_000) });
    await writeFile(file, "age-encryption.org/v1\n");
    const encrypted = await scan();
    expect(encrypted.undecrypted).toBe(true);
    expect(encrypted.problems).toEqual([
      expect.stringMatching(/00000002\.history: it is encrypted, and this host was given no identity to read it; /),
    ]);
    const [theirs, ours] = [await makeAgeKey(), await makeAgeKey()];
    const plain = Readable.from([Buffer.from("1\t0/3000000\tno reason\n")], { objectMode: false });
    await writeFile(file, await encryptWal(plain, [theirs.recipient], AbortSignal.timeout(10_000)));
    const wrong = await scan(ours.identityFile);
    expect(wrong.undecrypted).toBe(false);
    expect(wrong.problems).toEqual([expect.stringContaining("is encrypted to other recipients than the identities")]);
    await writeFile(file, "torn");
    const damaged = await scan();
    expect(damaged.undecrypted).toBe(false);
    expect(damaged.problems).toHaveLength(1);
    const orphan = await scanWal(storage, { servers: [], identities: undefined, signal: AbortSignal.timeout(10_000) });
    expect(orphan).toMatchObject({ wal: [], problems: [] });
    expect(orphan.leftOut).toEqual([expect.stringContaining("cls_a/wal/7300000000000000001: no physical backup")]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
