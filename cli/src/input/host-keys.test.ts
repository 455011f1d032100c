import { createHmac, generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readHostKeys } from "./host-keys.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-keys-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A new public key as OpenSSH writes it. */
function makeKey(): string {
  const { x = "" } = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
  const parts = [Buffer.from("ssh-ed25519"), Buffer.from(x, "base64url")].map((part) =>
    Buffer.concat([Buffer.from([0, 0, 0, part.length]), part]),
  );
  return `ssh-ed25519 ${Buffer.concat(parts).toString("base64")}`;
}

const [one, two, three] = [makeKey(), makeKey(), makeKey()];

async function known(lines: readonly string[], host: string, port = 0): Promise<string[]> {
  const file = join(folder, "known_hosts");
  await writeFile(file, `${lines.join("\n")}\n`);
  return await readHostKeys({ knownHosts: file }, { host, port });
}

test("a key is taken as it stands in the server's file, in known_hosts, or as ssh-keyscan prints it", async () => {
  const server = { host: "vault", port: 0 };
  expect(await readHostKeys({ hostKey: [one, `${two} root@vault`, `vault ${three}`, one] }, server)).toEqual([
    one,
    two,
    three,
  ]);
  expect(await readHostKeys({}, server)).toEqual([]);
});

test("what is no key is refused with how one is had and compared", async () => {
  const [, base64 = ""] = one.split(" ");
  for (const hostKey of ["AAAA", `ssh-rsa ${base64}`, "ssh-ed25519 AAAA", "ssh-ed25519", `a b ${one}`]) {
    await expect(readHostKeys({ hostKey: [hostKey] }, { host: "vault", port: 2222 }), hostKey).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      hint: expect.stringMatching(/^run ssh-keyscan -p 2222 vault, compare/) as string,
    });
  }
});

test("of known_hosts the lines of this server and port are taken, plain, hashed and by pattern", async () => {
  const salt = Buffer.alloc(20, 7).toString("base64");
  const hashed = `|1|${salt}|${createHmac("sha1", Buffer.alloc(20, 7)).update("vault").digest("base64")}`;
  expect(
    await known(["# comment", "", `vault,10.0.0.7 ${one}`, `other ${two}`, `[vault]:2222 ${three}`], "Vault"),
  ).toEqual([one]);
  expect(await known([`vault ${one}`, `[vault]:2222 ${three}`], "vault", 2222)).toEqual([three]);
  expect(await known([`${hashed} ${one} comment`], "vault", 22)).toEqual([one]);
  expect(await known([`*.example.com,!bad.example.com ${one}`], "vault.example.com")).toEqual([one]);
});

test("no key of another server, of an authority or of a revoked one is taken", async () => {
  const lines = [`other ${one}`, `@cert-authority vault ${two}`, `vault ${three}`, `@revoked vault ${three}`];
  await expect(known(lines, "vault")).rejects.toMatchObject({
    message: expect.stringMatching(/holds no key of vault$/) as string,
  });
  await expect(known([`*.example.com,!bad.example.com ${one}`], "bad.example.com")).rejects.toThrow("holds no key");
  await expect(known([`v.ult ${one}`], "vault")).rejects.toThrow("holds no key");
  await expect(readHostKeys({ knownHosts: join(folder, "nothing") }, { host: "v", port: 0 })).rejects.toThrow("ENOENT");
});
