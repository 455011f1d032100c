import { fail } from "@coppice/proto/kit/failure";
import type { Encrypter } from "age-encryption";

/** What encrypts to these X25519 recipients of age. Errors: INVALID_FIELD, naming the field, for one that is none. */
export async function openEncrypter(recipients: readonly string[], field: string): Promise<Encrypter> {
  const { Encrypter } = await import("age-encryption");
  const encrypter = new Encrypter();
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch (cause) {
      fail("INVALID_FIELD", `${recipient} is no age recipient`, {
        fields: [{ field, expected: "a line that age-keygen prints, age1…", value: recipient }],
        cause,
      });
    }
  }
  return encrypter;
}
