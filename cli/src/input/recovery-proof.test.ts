import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { RecoveryChallengeSchema } from "@coppice/proto/gen/coppice/control/v1/repository";
import { armor, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openInterrupts } from "../interrupts.ts";
import { openTerminal } from "../output/terminal.ts";
import { proveRecovery } from "./recovery-proof.ts";

const interrupts = openInterrupts(process);
const session = { terminal: { ...openTerminal(process), stdinIsTty: false }, interrupts, signal: interrupts.signal };
const identity = await generateX25519Identity();
const recoveryRecipient = await identityToRecipient(identity);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-proof-"));
});
afterAll(async () => {
  interrupts[Symbol.dispose]();
  await rm(folder, { recursive: true, force: true });
});

/** As a control plane does it. */
async function challenge(recipient: string) {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  const encryptedProbe = armor.encode(await encrypter.encrypt("0123abcd\n"));
  return create(RecoveryChallengeSchema, { encryptedProbe, token: "token" });
}

async function identityFile(...identities: string[]): Promise<string> {
  const file = join(folder, "recovery.txt");
  await writeFile(file, ["# created: 2026-11-21", ...identities, ""].join("\n"));
  return file;
}

test("the identity's file answers the challenge, and neither it nor its content is part of the request", async () => {
  const recoveryIdentity = await identityFile(await generateX25519Identity(), identity);
  const asked = await proveRecovery(
    session,
    { recoveryRecipient, recoveryIdentity, recipient: ["age1other"], withoutIdentity: true },
    challenge,
  );
  expect(asked).toMatchObject({
    recoveryRecipient,
    challengeToken: "token",
    answer: "0123abcd",
    recipients: ["age1other"],
    withoutIdentity: true,
  });
  expect(JSON.stringify(asked)).not.toContain(identity);
});

test("a file of another identity, of nothing or of no identity proves nothing, and is not quoted", async () => {
  for (const lines of [[await generateX25519Identity()], [], ["AGE-SECRET-KEY-1BROKEN"]]) {
    const recoveryIdentity = await identityFile(...lines);
    const error: unknown = await proveRecovery(session, { recoveryRecipient, recoveryIdentity }, challenge).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ reason: "RECOVERY_NOT_PROVED" });
    const { message, hint } = error as { message: string; hint: string };
    expect(message + hint).not.toContain("AGE-SECRET-KEY");
  }
});

test("without a file there has to be somebody to ask", async () => {
  await expect(proveRecovery(session, { recoveryRecipient }, challenge)).rejects.toMatchObject({
    reason: "RECOVERY_NOT_PROVED",
    hint: "give its file: --recovery-identity FILE",
  });
});

test("recipients without a recovery recipient are refused; no flag at all asks for no encryption", async () => {
  await expect(proveRecovery(session, { recipient: [recoveryRecipient] }, challenge)).rejects.toMatchObject({
    reason: "INVALID_FIELD",
    hint: expect.stringContaining("age-keygen -o recovery.txt") as string,
  });
  await expect(proveRecovery(session, { withoutIdentity: true }, challenge)).rejects.toThrow("recovery recipient");
  expect(await proveRecovery(session, {}, challenge)).toBeUndefined();
});
