import { createSecretKey, randomBytes } from "node:crypto";
import { isFailure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { openSealed, seal } from "./seal.ts";

const key = createSecretKey(randomBytes(32));
const row = "sec_01jd0000000000000000000000";

function refusal(open: () => Buffer): unknown {
  try {
    return open();
  } catch (error) {
    return isFailure(error, "SECRET_UNREADABLE");
  }
}

test("a sealed secret opens with its key and its row, whatever it holds", () => {
  for (const text of ["", "hunter2", "ключ 🔑\n", "x".repeat(100_000)]) {
    expect(openSealed(key, row, seal(key, row, text)).toString()).toBe(text);
  }
});

test("a sealed secret shows nothing of the plain one, and no two are alike", () => {
  const sealed = Buffer.from(seal(key, row, "hunter2-hunter2"));
  expect(sealed.includes("hunter2")).toBe(false);
  expect(sealed.equals(Buffer.from(seal(key, row, "hunter2-hunter2")))).toBe(false);
});

test("another key, another row, changed and cut bytes do not open it", () => {
  const sealed = Buffer.from(seal(key, row, "hunter2"));
  expect(refusal(() => openSealed(createSecretKey(randomBytes(32)), row, sealed))).toBe(true);
  expect(refusal(() => openSealed(key, "sec_01jd0000000000000000000001", sealed))).toBe(true);
  for (let index = 0; index < sealed.length; index++) {
    const changed = Buffer.from(sealed);
    changed[index] = (changed[index] ?? 0) ^ 1;
    expect(
      refusal(() => openSealed(key, row, changed)),
      `byte ${index}`,
    ).toBe(true);
    expect(
      refusal(() => openSealed(key, row, sealed.subarray(0, index))),
      `length ${index}`,
    ).toBe(true);
  }
});
