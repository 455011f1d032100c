import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { makeIdentity, readIdentities } from "./identities.ts";

test("a file of several identities is kept without its remarks, and says whose they are", async () => {
  const [one, two] = [await generateX25519Identity(), await generateX25519Identity()];
  const text = `# created: 2026-11-21\r\n${one}\r\n\n  ${two}\n`;
  expect(await readIdentities(text, "f")).toEqual({
    file: `${one}\n${two}\n`,
    recipients: [await identityToRecipient(one), await identityToRecipient(two)],
  });
  const own = await makeIdentity();
  expect(await readIdentities(own.file, "f")).toEqual(own);
});

test("what is no identity file is refused by its field, and nothing of it is said", async () => {
  const sound = await generateX25519Identity();
  const damaged = `${sound.slice(0, -1)}${sound.endsWith("Q") ? "P" : "Q"}`;
  for (const text of [
    "",
    "# nothing\n",
    "hunter2\n",
    `${sound}\nhunter2\n`,
    `${damaged}\n`,
    "age-encryption.org/v1\n-> scrypt",
  ]) {
    const refused: unknown = await readIdentities(text, "encryption.identity").catch((error: unknown) => error);
    expect(refused).toMatchObject({ reason: "INVALID_FIELD", fields: [{ field: "encryption.identity" }] });
    const { message, hint, cause } = refused as { message: string; hint: string; cause?: unknown };
    expect(`${message} ${hint} ${String(cause)}`).not.toMatch(new RegExp(`hunter2|${sound}|${damaged}|scrypt`));
  }
});
