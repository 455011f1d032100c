import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { decodeWal } from "./wal-codec.ts";

test.each([
  ["encrypted, without an identity", "age-encryption.org/v1\n", "IDENTITY_MISSING"],
  ["neither compressed nor encrypted", "something else, long enough", "CONTENT_UNREADABLE"],
])("what is %s is let go of", async (_what, content, reason) => {
  const stored = Readable.from([Buffer.from(content), Buffer.alloc(1 << 20)], { objectMode: false });
  const decoding = decodeWal(stored, undefined, AbortSignal.timeout(30_000));
  await expect(decoding).rejects.toMatchObject({ reason });
  await expect.poll(() => stored.destroyed).toBe(true);
});
