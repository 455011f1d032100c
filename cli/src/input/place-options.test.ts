import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseLocation } from "./location.ts";
import { applyPlaceOptions, type PlaceOptions, placeOptions } from "./place-options.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-place-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The place as the words of a command line say it. */
async function place(text: string, ...words: string[]) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  for (const option of placeOptions()) command.addOption(option);
  command.parse(words, { from: "user" });
  return await applyPlaceOptions(parseLocation(text).location, command.opts<PlaceOptions>());
}

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkHUSW+MBlSaa1WbKqCjmW8TZuEANKGhMFF3HYAz6lX";

test("a bucket takes all that is said of it, and nothing that is not", async () => {
  const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  await writeFile(join(folder, "ca.pem"), pem);
  const server = ["--endpoint", "https://rgw.example.com:9000/", "--region", "eu", "--no-path-style"];
  const objects = ["--storage-class", "STANDARD_IA", "--sse", "aws:kms", "--kms-key", "k1"];
  const words = [...server, ...objects, "--ca-file", join(folder, "ca.pem"), "--profile", "p"];
  const { kind } = await place("s3://acme/prod", ...words);
  expect(kind.value).toMatchObject({
    bucket: "acme",
    prefix: "prod",
    endpoint: "https://rgw.example.com:9000",
    region: "eu",
    pathStyle: false,
    storageClass: "STANDARD_IA",
    serverSideEncryption: "aws:kms",
    kmsKeyId: "k1",
    caPem: pem,
    profile: "p",
  });
  expect((await place("s3://acme")).kind.value).not.toHaveProperty("pathStyle", expect.anything());
  expect((await place("s3://acme", "--path-style")).kind.value).toMatchObject({ pathStyle: true, endpoint: "" });
});

test("a server takes its keys and the file of the hosts' own, a folder whether it is shared", async () => {
  const words = ["--host-key", hostKey, "--identity-file", "/etc/coppice/id"];
  const { kind } = await place("ssh://backup@vault/srv", ...words);
  expect(kind.value).toMatchObject({ host: "vault", hostKeys: [hostKey], identityFile: "/etc/coppice/id" });
  expect((await place("db7:/srv", "--shared")).kind.value).toMatchObject({ shared: true });
  expect((await place("db7:/srv")).kind.value).toMatchObject({ shared: false });
});

test("a server without a key is refused: nothing is trusted because it answers first", async () => {
  await expect(place("ssh://backup@vault/srv")).rejects.toMatchObject({
    reason: "INVALID_FIELD",
    message: "no host key of vault is given, and an unknown server is never trusted",
    hint: expect.stringContaining("ssh-keyscan vault") as string,
  });
});

test("an option of another kind of place is refused by name, with what it is for", async () => {
  const wrong: [string, string[], RegExp][] = [
    ["db7:/srv", ["--region", "eu"], /^--region does not fit a folder, HOST:\/path$/],
    ["db7:/srv", ["--no-path-style"], /^--path-style does not fit/],
    ["db7:/srv", ["--credentials", "-"], /^--credentials does not fit a folder/],
    ["s3://acme", ["--shared"], /^--shared does not fit a bucket/],
    ["s3://acme", ["--known-hosts", "x"], /^--known-hosts does not fit a bucket/],
    ["ssh://u@h/x", ["--host-key", hostKey, "--sse", "AES256"], /^--sse does not fit a folder on a server/],
  ];
  for (const [text, words, message] of wrong) {
    await expect(place(text, ...words), words.join(" ")).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      message: expect.stringMatching(message) as string,
      hint: expect.stringMatching(/^leave it out; it is for /) as string,
    });
  }
});

test("values that cannot be are refused before anything is sent", async () => {
  await writeFile(join(folder, "empty.pem"), "nothing");
  const wrong: [string, string[], RegExp][] = [
    ["s3://acme", ["--endpoint", "rgw.example.com"], /is not the address of an S3 server/],
    ["s3://acme", ["--endpoint", "https://key:secret@h"], /is not the address of an S3 server/],
    ["s3://acme", ["--kms-key", "k"], /without --sse aws:kms/],
    ["s3://acme", ["--ca-file", join(folder, "empty.pem")], /holds no certificate/],
    ["s3://acme", ["--ca-file", join(folder, "none.pem")], /cannot be read: ENOENT/],
    ["ssh://u@h/x", ["--host-key", hostKey, "--identity-file", "id"], /is not an absolute path/],
  ];
  for (const [text, words, message] of wrong) {
    await expect(place(text, ...words), words.join(" ")).rejects.toThrow(message);
  }
});
