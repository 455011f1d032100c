import { create } from "@bufbuild/protobuf";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { expect, test } from "vitest";
import { parsePlace } from "./place.ts";

const folder = (path: string, shared = false) =>
  create(RepositoryLocationSchema, { kind: { case: "filesystem", value: { path, shared } } });
const bucket = (endpoint: string, prefix = "") =>
  create(RepositoryLocationSchema, { kind: { case: "s3", value: { bucket: "backups", endpoint, prefix } } });
const server = (host: string, port: number, path = "/srv/b") =>
  create(RepositoryLocationSchema, { kind: { case: "ssh", value: { host, port, user: "u", path } } });

test("two spellings of one place have one key", () => {
  expect(parsePlace(folder("/srv//a/../b/"), "hst_1").key).toBe(parsePlace(folder("/srv/b"), "hst_1").key);
  expect(parsePlace(bucket("https://S3.example.com"), undefined).key).toBe(
    parsePlace(bucket("https://s3.example.com"), undefined).key,
  );
  expect(parsePlace(server("Vault", 0), undefined).key).toBe(parsePlace(server("vault", 22), undefined).key);
});

test("a folder of two hosts is two places, a shared one is one", () => {
  expect(parsePlace(folder("/srv/b"), "hst_1").key).not.toBe(parsePlace(folder("/srv/b"), "hst_2").key);
  expect(parsePlace(folder("/srv/b", true), "hst_1").key).toBe(parsePlace(folder("/srv/b", true), "hst_2").key);
});

test("prefixes of one bucket are places of their own", () => {
  expect(parsePlace(bucket("", "a"), undefined).key).not.toBe(parsePlace(bucket("", "b"), undefined).key);
});

test("a folder without its host, a bucket with one, the root folder and a key without aws:kms are refused by field", () => {
  const field = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return (error as { fields: { field: string }[] }).fields[0]?.field;
    }
    return undefined;
  };
  expect(field(() => parsePlace(folder("/srv"), undefined))).toBe("home_host");
  expect(field(() => parsePlace(bucket(""), "hst_1"))).toBe("home_host");
  expect(field(() => parsePlace(folder("/a/.."), "hst_1"))).toBe("location.filesystem.path");
  const keyed = create(RepositoryLocationSchema, { kind: { case: "s3", value: { bucket: "backups", kmsKeyId: "k" } } });
  expect(field(() => parsePlace(keyed, undefined))).toBe("location.s3.server_side_encryption");
});
