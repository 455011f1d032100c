import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { matchIdentities, recipientOf } from "./age-identity.ts";

const keygen = () => execFileSync("age-keygen", { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
const recipientIn = (file: string) => /age1[0-9a-z]{58}/.exec(file)?.[0] ?? "";
const identityIn = (file: string) => /AGE-SECRET-KEY-1\S+/.exec(file)?.[0] ?? "";

test("an identity gives the recipient that age-keygen gives, and a misspelt one none", () => {
  for (let made = 0; made < 20; made++) {
    const file = keygen();
    expect(recipientOf(identityIn(file))).toBe(recipientIn(file));
  }
  const identity = identityIn(keygen());
  const last = identity.endsWith("Q") ? "P" : "Q";
  for (const text of [
    "",
    "AGE-SECRET-KEY-1",
    identity.slice(0, -1),
    identity.slice(0, -1) + last,
    recipientIn(keygen()),
  ])
    expect(recipientOf(text)).toBeUndefined();
});

test("only the identities that open it are handed on, out of a file with comments", () => {
  const [one, other] = [keygen(), keygen()];
  expect(matchIdentities([recipientIn(other)], `${one}\n${other}`)).toBe(`${identityIn(other)}\n`);
  expect(matchIdentities([], undefined)).toBeUndefined();
});

test("a missing or wrong identity is refused, and the message names recipients and no secret", () => {
  const [one, other] = [keygen(), keygen()];
  const wanted = recipientIn(one);
  const refusal = (identities?: string) => {
    try {
      return matchIdentities([wanted], identities);
    } catch (error) {
      return error;
    }
  };
  for (const nothing of [undefined, "", "# only a comment\n"])
    expect(refusal(nothing)).toMatchObject({
      reason: "IDENTITY_MISSING",
      message: expect.stringContaining(wanted) as unknown,
    });
  expect(String(refusal(wanted))).toContain("are of a recipient, which only encrypts");
  const wrong = refusal(`${other}junk\n`);
  expect(wrong).toMatchObject({ reason: "IDENTITY_WRONG", metadata: { recipients: wanted } });
  expect(String(wrong)).toContain(recipientIn(other));
  expect(JSON.stringify(wrong) + String(wrong)).not.toContain("SECRET-KEY");
  expect(String(wrong)).not.toContain("junk");
});
