import { createSecretKey, randomBytes } from "node:crypto";
import { isFailure } from "@coppice/proto/kit/failure";
import { armor, Decrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { checkAnswer, makeChallenge } from "./recovery-challenge.ts";

const key = createSecretKey(randomBytes(32));
const now = new Date("2026-01-01T00:00:00Z");

async function challenged() {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  const { encryptedProbe, token } = await makeChallenge(key, recipient, now);
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  const answer = await decrypter.decrypt(armor.decode(encryptedProbe), "text");
  return { recipient, token, answer, now };
}

const isProved = (given: Awaited<ReturnType<typeof challenged>>, masterKey = key) => {
  try {
    checkAnswer(masterKey, given);
    return true;
  } catch (error) {
    if (isFailure(error, "RECOVERY_NOT_PROVED")) return false;
    throw error;
  }
};

test("who holds the identity can answer", async () => {
  expect(isProved(await challenged())).toBe(true);
});

test("a wrong answer, another recipient, a late answer, another control plane and a changed token prove nothing", async () => {
  const given = await challenged();
  const other = await challenged();
  expect(isProved({ ...given, answer: other.answer })).toBe(false);
  expect(isProved({ ...given, recipient: other.recipient })).toBe(false);
  expect(isProved({ ...given, now: new Date(now.getTime() + 3_600_001) })).toBe(false);
  expect(isProved(given, createSecretKey(randomBytes(32)))).toBe(false);
  expect(isProved({ ...given, token: given.token.slice(0, -2) })).toBe(false);
});

test("what is no recipient is refused by field", async () => {
  await expect(makeChallenge(key, `age1${"q".repeat(58)}`, now)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
});
