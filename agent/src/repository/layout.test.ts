import { expect, test } from "vitest";
import {
  backupPrefix,
  clusterFileKey,
  formatStreamObjectName,
  isRelativeKey,
  manifestKey,
  objectKey,
  parseFolderTime,
  parseObjectOwner,
  parseStreamObjectName,
  parseWalAnchor,
  parseWalGrant,
  probeKey,
  walAnchorKey,
  walClaimPrefix,
  walGrantKey,
  walKey,
} from "./layout.ts";

const refused = expect.objectContaining({ reason: "OBJECT_KEY_REFUSED" }) as Error;

test("keys lie where the layout says", () => {
  const prefix = backupPrefix({ clusterId: "cls_a", folder: "20261121T013000Z_dump_bkp_a" });
  expect(prefix).toBe("cls_a/backups/20261121T013000Z_dump_bkp_a/");
  expect(manifestKey(prefix)).toBe(`${prefix}manifest.json`);
  expect(objectKey(prefix, "db/16384.dump.zst.0000")).toBe(`${prefix}db/16384.dump.zst.0000`);
  expect(clusterFileKey("cls_a")).toBe("cls_a/cluster.json");
  expect(probeKey("op_a")).toBe("probe/op_a");
});

test("what would lead out of its folder is refused", () => {
  for (const id of ["", "..", "a/b", "a b", "ä"]) {
    expect(() => backupPrefix({ clusterId: id, folder: "x" }), id).toThrow(refused);
    expect(() => backupPrefix({ clusterId: "x", folder: id }), id).toThrow(refused);
    expect(() => clusterFileKey(id), id).toThrow(refused);
    expect(() => probeKey(id), id).toThrow(refused);
  }
  for (const key of ["", "/a", "a/", "a//b", "../a", "a/..", "./a", "a b", "ä", "a\n", "x".repeat(513)]) {
    expect(isRelativeKey(key), key).toBe(false);
    expect(() => objectKey("p/", key), key).toThrow(refused);
  }
});

test("names of a stream's objects are numbered and read back", () => {
  for (const index of [0, 7, 9999, 10_000, 123_456]) {
    const stream = "db/1.dump.zst";
    expect(parseStreamObjectName(formatStreamObjectName({ stream, index }))).toEqual({ stream, index });
  }
  expect(formatStreamObjectName({ stream: "globals.sql.zst", index: 3 })).toBe("globals.sql.zst.0003");
  for (const name of ["RECOVER.txt", "a.123", "a.01234", ".0000", "a.00x0"]) {
    expect(parseStreamObjectName(name), name).toBeUndefined();
  }
});

test("a key says whom it belongs to, and what Coppice does not make is foreign", () => {
  const cluster = `cls_${"0".repeat(26)}`;
  const folder = `20261121T013000Z_dump_bkp_${"1".repeat(26)}`;
  expect(parseObjectOwner(`${cluster}/cluster.json`)).toEqual({ is: "clusterFile", clusterId: cluster });
  expect(parseObjectOwner(`${cluster}/backups/${folder}/db/1.dump.zst.0000`)).toEqual({
    is: "backup",
    clusterId: cluster,
    folder,
    name: "db/1.dump.zst.0000",
  });
  expect(parseObjectOwner("probe/op_1")).toEqual({ is: "probe" });
  const foreign = ["README", `${cluster}/notes.txt`, `${cluster}/backups/x/manifest.json`, `a/${cluster}/cluster.json`];
  for (const key of [...foreign, `${cluster}/backups/${folder}/a b`, `${cluster}/backups/${folder}/../x`])
    expect(parseObjectOwner(key), key).toEqual({ is: "foreign" });
});

test("a file of the WAL archive has one key, and anything else there is foreign", () => {
  const place = { clusterId: `cls_${"0".repeat(26)}`, systemIdentifier: "7312345678901234567" };
  const root = `${place.clusterId}/wal/${place.systemIdentifier}`;
  const keys = {
    "0000001A00000001000000FF": "0000001A/0000001A00000001",
    "0000001A00000001000000FF.partial.00000001FF000028": "0000001A/0000001A00000001",
    "0000001A.history": "history",
    "0000001A00000001000000FF.00000028.backup": "history",
  };
  for (const [name, folder] of Object.entries(keys)) {
    expect(walKey(place, name)).toBe(`${root}/${folder}/${name}`);
    expect(parseObjectOwner(`${root}/${folder}/${name}`)).toEqual({ is: "wal", ...place, name });
    expect(parseObjectOwner(`${root}/other/${name}`)).toEqual({ is: "foreign" });
    const claim = `${walClaimPrefix(place, name)}${"0a".repeat(32)}`;
    expect(claim).toBe(`${root}/digests/${folder}/${name}.sha256-${"0a".repeat(32)}`);
    expect(parseObjectOwner(claim)).toEqual({ is: "walClaim", ...place, name });
    expect(parseObjectOwner(claim.slice(0, -1))).toEqual({ is: "foreign" });
  }
  for (const name of ["", "../x", "0000001a.history", "0000001A00000001000000FF.zst", "archive_status"])
    expect(() => walKey(place, name)).toThrow(refused);
  expect(() => walKey({ ...place, systemIdentifier: "../7" }, "0000001A.history")).toThrow(refused);
});

test("a folder's name tells when its work began", () => {
  expect(parseFolderTime("20261121T013059Z_dump_bkp_x")).toEqual(new Date("2026-11-21T01:30:59Z"));
  expect(parseFolderTime("dump_bkp_x")).toBeUndefined();
});

test("a grant says its number in its key, so that they sort by it", () => {
  const place = { clusterId: "cls_1", systemIdentifier: "7312345678901234567" };
  const key = walGrantKey(place, 1_795_871_234_567n);
  expect(key).toBe("cls_1/wal/7312345678901234567/grants/000001A222445A07");
  expect(parseWalGrant(key)).toBe(1_795_871_234_567n);
  expect(parseObjectOwner(key)).toEqual({ is: "walGrant", ...place });
  for (const other of [`${key}0`, key.toLowerCase(), key.replace("grants", "anchors"), "probe/x"])
    expect(parseWalGrant(other), other).toBeUndefined();
});

test("an anchor says everything in its key, and nothing else is one", () => {
  const place = { clusterId: "cls_1", systemIdentifier: "7312345678901234567" };
  const anchor = { timeline: 26, lsn: 0x16b374d848n, timeUs: 1_795_871_234_567_890n };
  const key = walAnchorKey(place, anchor);
  expect(key).toBe("cls_1/wal/7312345678901234567/anchors/0000001A/00000016B374D848.00066155DAFFAED2");
  expect(parseWalAnchor(key)).toEqual(anchor);
  expect(parseObjectOwner(key)).toEqual({ is: "walAnchor", ...place });
  for (const other of [`${key}0`, key.toLowerCase(), key.replace("anchors", "history"), "probe/x"])
    expect(parseWalAnchor(other), other).toBeUndefined();
});
