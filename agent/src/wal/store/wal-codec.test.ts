import { Readable } from "node:stream";
import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { decodeWal, toDecodeFailure } from "./wal-codec.ts";

test.each([
  ["encrypted, without an identity", "age-encryption.org/v1\n", "IDENTITY_MISSING"],
  ["neither compressed nor encrypted", "something else, long enough", "CONTENT_UNREADABLE"],
])("what is %s is let go of", async (_what, content, reason) => {
  const stored = Readable.from([Buffer.from(content), Buffer.alloc(1 << 20)], { objectMode: false });
  const decoding = decodeWal(stored, undefined, AbortSignal.timeout(30_000));
  await expect(decoding).rejects.toMatchObject({ reason });
  await expect.poll(() => stored.destroyed).toBe(true);
});

test("what age takes for no identity is one that is wrong, and no fault of a program", () => {
  const stderr = 'age: error: reading "/dev/fd/3": error at line 1: unknown identity type';
  const failure = toDecodeFailure(new Failure("PROGRAM_FAILED", "age ended", { metadata: { stderr } }), "a");
  expect(failure).toMatchObject({
    reason: "IDENTITY_WRONG",
    hint: expect.stringContaining("AGE-SECRET-KEY-1") as unknown,
  });
});
