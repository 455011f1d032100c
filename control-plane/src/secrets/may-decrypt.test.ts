import { expect, test } from "vitest";
import { mayDecrypt, requireMayDecrypt } from "./may-decrypt.ts";

const trusted = { name: "db7", labels: { "may-decrypt": "true" } };
const other = { name: "db8", labels: {} };
const encrypted = { name: "main", encryption: {}, identitySecretId: "sec_1" };

function reasonOf(work: () => void): string {
  try {
    work();
    return "";
  } catch (error) {
    return (error as { reason: string }).reason;
  }
}

test("a host may decrypt when its label says so, and not when it says anything else", () => {
  expect(mayDecrypt(trusted)).toBe(true);
  const others = ["", "false", "no", "off", "0", "True"].map((value) => ({ "may-decrypt": value }));
  for (const labels of [{}, { decrypt: "true" }, ...others]) expect(mayDecrypt({ labels })).toBe(false);
});

test("only an encrypted repository asks for the label, and for an identity", () => {
  expect(reasonOf(() => requireMayDecrypt({ ...encrypted, encryption: null }, other))).toBe("");
  expect(reasonOf(() => requireMayDecrypt(encrypted, other))).toBe("HOST_MAY_NOT_DECRYPT");
  expect(reasonOf(() => requireMayDecrypt(encrypted, trusted))).toBe("");
  expect(reasonOf(() => requireMayDecrypt({ ...encrypted, identitySecretId: null }, trusted))).toBe("IDENTITY_MISSING");
});
