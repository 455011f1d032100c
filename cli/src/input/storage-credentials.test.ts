import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTerminal } from "../output/terminal.ts";
import { parseLocation } from "./location.ts";
import { readCredentials, refuseOtherKind } from "./storage-credentials.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-credentials-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const terminal = openTerminal(process);
const { signal } = new AbortController();
const secret = "s3cr3t-that-must-not-be-told";

async function fromFile(text: string) {
  const file = join(folder, "keys.yaml");
  await writeFile(file, text);
  return await readCredentials({ terminal, signal }, { credentials: file });
}

const keys = (id: string) => ({ kind: { case: "s3", value: { accessKeyId: id, secretAccessKey: secret } } });

test("a file gives credentials by purpose, or one for all of them", async () => {
  const each = ["write", "read", "delete"]
    .map((purpose) => `${purpose}: {access_key_id: ${purpose[0]}, secret_access_key: ${secret}}`)
    .join("\n");
  expect(await fromFile(each)).toMatchObject({ write: keys("w"), read: keys("r"), delete: keys("d") });
  const one = await fromFile(`access_key_id: all\nsecret_access_key: ${secret}\nsession_token: t\n`);
  expect(one).toMatchObject({ write: { kind: { value: { accessKeyId: "all", sessionToken: "t" } } } });
  expect(one?.read).toBeUndefined();
  expect(await fromFile(`delete: {access_key_id: d, secret_access_key: ${secret}}`)).toMatchObject({
    delete: keys("d"),
  });
});

test("a private key is in the file, or in one that it names", async () => {
  await writeFile(join(folder, "id"), `-----BEGIN\n${secret}\n`);
  const named = await fromFile(`private_key_file: ${join(folder, "id")}\npassphrase: "0"`);
  const value = { privateKey: `-----BEGIN\n${secret}\n`, passphrase: "0" };
  expect(named?.write?.kind).toMatchObject({ case: "ssh", value });
  const inline = await fromFile(`read:\n  private_key: |\n    -----BEGIN\n    ${secret}\n`);
  expect(inline?.read?.kind.value).toMatchObject({ privateKey: `-----BEGIN\n${secret}\n` });
});

test("keys come from the environment of the one who asks", async () => {
  const env = { AWS_ACCESS_KEY_ID: "e", AWS_SECRET_ACCESS_KEY: secret };
  expect(await readCredentials({ terminal: { ...terminal, env }, signal }, { credentials: "env" })).toMatchObject({
    write: keys("e"),
  });
  await expect(
    readCredentials({ terminal: { ...terminal, env: {} }, signal }, { credentials: "env" }),
  ).rejects.toMatchObject({ reason: "INVALID_FIELD" });
  expect(await readCredentials({ terminal, signal }, {})).toBeUndefined();
});

test("what is refused is refused without a word of it", async () => {
  const wrong = [
    `write: [${secret}`,
    `- ${secret}`,
    secret,
    `write: {access_key_id: ${secret}}`,
    `write: ${secret}`,
    `write: {access_key_id: a, secret_access_key: 12345}`,
    `write: {access_key_id: a, secret_access_key: ${secret}}\nadmin: {access_key_id: a}`,
  ];
  for (const text of wrong) {
    const error: unknown = await fromFile(text).catch((thrown: unknown) => thrown);
    expect(error, text).toMatchObject({ reason: "INVALID_FIELD" });
    const { message, hint } = error as { message: string; hint: string };
    expect(message + hint).not.toContain(secret);
    expect(hint).not.toBe("");
  }
});

test("keys of S3 are no keys for an SSH server, and none are for a folder", async () => {
  const credentials = await fromFile(`access_key_id: a\nsecret_access_key: ${secret}`);
  const refuse = (text: string) => refuseOtherKind(credentials, parseLocation(text).location);
  expect(() => refuse("s3://acme")).not.toThrow();
  expect(() => refuse("ssh://u@vault/srv")).toThrow("not of the kind that the place takes");
  expect(() => refuseOtherKind(undefined, parseLocation("db7:/srv").location)).not.toThrow();
});
