import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import { findHostKeys, parseHostKey } from "./known-hosts.ts";

function key(type: string, filling: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(type.length);
  return `${type} ${Buffer.concat([length, Buffer.from(type + filling)]).toString("base64")}`;
}
const [one, two, three] = [key("ssh-ed25519", "one"), key("ssh-ed25519", "two"), key("ssh-rsa", "three")];

test("keys are found by name, port, pattern and hash, and revoked or foreign ones are not", () => {
  const salt = Buffer.from("0123456789").toString("base64");
  const hash = createHmac("sha1", Buffer.from(salt, "base64")).update("hidden").digest("base64");
  const text = `# comment
vault.example.com,10.0.0.7 ${one} of the vault
[vault.example.com]:2222 ${two}
*.example.com,!other.example.com ${three}
|1|${salt}|${hash} ${two}
@cert-authority * ${two}
@revoked bad.example.com ${one}
bad.example.com ${one}
`;
  const found = (host: string, port = 0) => findHostKeys(text, { host, port });
  expect(found("Vault.example.com", 22)).toEqual([one, three]);
  expect(found("10.0.0.7")).toEqual([one]);
  expect(found("vault.example.com", 2222)).toEqual([two]);
  expect(found("other.example.com")).toEqual([]);
  expect(found("hidden")).toEqual([two]);
  expect(found("bad.example.com")).toEqual([three]);
  expect(found("elsewhere")).toEqual([]);
});

test("a key is one whose bytes are of the type that it says", () => {
  expect(parseHostKey(one)).toBe(one);
  expect(parseHostKey(`vault ${one} comment`)).toBe(one);
  for (const text of ["", "ssh-ed25519", one.replace("ed25519", "rsa"), `a b ${one}`, "ssh-rsa AAA!"])
    expect(parseHostKey(text), text).toBeUndefined();
});
