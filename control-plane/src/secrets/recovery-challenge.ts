import { createHash, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto";
import { fail } from "@coppice/proto/kit/failure";
import { openEncrypter } from "./recipients.ts";
import { openSealed, seal } from "./seal.ts";

const lifetimeMs = 3_600_000;
/** Stands for the row that a sealed text otherwise belongs to. */
const purpose = "recovery challenge";

/** A probe that only the holder of a recipient's identity can read. */
export interface Challenge {
  /** An age file in its armored form. */
  readonly encryptedProbe: string;
  /** Sealed: holds what the answer has to be, so that nothing has to be stored meanwhile. */
  readonly token: string;
}

/** Encrypts a new random probe to an age recipient. Errors: INVALID_FIELD for one that is no X25519 recipient. */
export async function makeChallenge(masterKey: KeyObject, recipient: string, now: Date): Promise<Challenge> {
  const { armor } = await import("age-encryption");
  const answer = randomBytes(16).toString("hex");
  const encrypter = await openEncrypter([recipient], "recovery_recipient");
  const probe = await encrypter.encrypt(`${answer}\n`);
  const sealed = seal(masterKey, purpose, JSON.stringify([recipient, answer, now.getTime() + lifetimeMs]));
  return { encryptedProbe: armor.encode(probe), token: Buffer.from(sealed).toString("base64url") };
}

/** Refuses an answer that is not what the probe for this recipient held. Errors: RECOVERY_NOT_PROVED. */
export function checkAnswer(
  masterKey: KeyObject,
  { token, answer, recipient, now }: { token: string; answer: string; recipient: string; now: Date },
): void {
  const [asked, expected, expiresMs] = openToken(masterKey, token);
  if (asked !== recipient) fail("RECOVERY_NOT_PROVED", "the challenge was made for another recipient");
  if (now.getTime() > expiresMs) fail("RECOVERY_NOT_PROVED", "the challenge is older than an hour");
  const digest = (text: string) => createHash("sha256").update(text).digest();
  if (!timingSafeEqual(digest(answer.trim()), digest(expected))) {
    fail("RECOVERY_NOT_PROVED", "the answer is not what the probe holds");
  }
}

function openToken(masterKey: KeyObject, token: string): [string, string, number] {
  try {
    return JSON.parse(openSealed(masterKey, purpose, Buffer.from(token, "base64url")).toString()) as [
      string,
      string,
      number,
    ];
  } catch (cause) {
    return fail("RECOVERY_NOT_PROVED", "the challenge was not made by this control plane", { cause });
  }
}
