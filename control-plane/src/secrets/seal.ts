import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from "node:crypto";
import { fail } from "@coppice/proto/kit/failure";

// One byte of format, 12 of nonce, the ciphertext, 16 of tag.
const format = 1;
const nonceBytes = 12;
const tagBytes = 16;

/**
 * Encrypts a secret for the catalog with AES-256-GCM. The row's id is the associated data, so that a sealed secret
 * that was moved to another row does not open.
 */
export function seal(masterKey: KeyObject, rowId: string, plaintext: Uint8Array | string): Uint8Array {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv("aes-256-gcm", masterKey, nonce).setAAD(Buffer.from(rowId));
  const bytes = typeof plaintext === "string" ? Buffer.from(plaintext) : plaintext;
  return Buffer.concat([Buffer.of(format), nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
}

/** What `seal` encrypted for that row. Errors: SECRET_UNREADABLE for another key, another row or changed bytes. */
export function openSealed(masterKey: KeyObject, rowId: string, sealed: Uint8Array): Buffer {
  const bytes = Buffer.from(sealed);
  if (bytes.length < 1 + nonceBytes + tagBytes || bytes[0] !== format) {
    fail("SECRET_UNREADABLE", `secret ${rowId} is of a form that this version does not know`);
  }
  try {
    const decipher = createDecipheriv("aes-256-gcm", masterKey, bytes.subarray(1, 1 + nonceBytes), {
      authTagLength: tagBytes,
    })
      .setAAD(Buffer.from(rowId))
      .setAuthTag(bytes.subarray(-tagBytes));
    return Buffer.concat([decipher.update(bytes.subarray(1 + nonceBytes, -tagBytes)), decipher.final()]);
  } catch (cause) {
    return fail("SECRET_UNREADABLE", `secret ${rowId} was sealed with another master key, or changed since`, { cause });
  }
}
