import { expect, test } from "vitest";
import { detectFormat, parseScriptHead } from "./detect.ts";

test("a dump is told by its first bytes", () => {
  const told = (bytes: number[] | string) => detectFormat(Buffer.from(bytes as string));
  expect(told("PGDMP\x01")).toBe("custom");
  expect(told([0x28, 0xb5, 0x2f, 0xfd, 0])).toBe("zstd");
  expect(told([0x1f, 0x8b, 8])).toBe("gzip");
  expect(told("age-encryption.org/v1\n-> X")).toBe("age");
  expect(told("--\n-- PostgreSQL database dump\n")).toBe("plain");
  const tar = Buffer.alloc(512);
  tar.write("toc.dat");
  tar.write("ustar", 257);
  expect(detectFormat(tar)).toBe("tar");
  tar.write("other\0\0");
  for (const head of [
    tar,
    Buffer.alloc(0),
    Buffer.from("PK\x03\x04"),
    Buffer.from("a\0b"),
    Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a]),
  ])
    expect(detectFormat(head)).toHaveProperty("unknown");
});

test("the head of a script says whether it is of a cluster, and of which versions", () => {
  const dump =
    "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 18.1\n-- Dumped by pg_dump version 18.1\n";
  expect(parseScriptHead(dump)).toEqual({ isCluster: false, serverMajor: 18, toolMajor: 18 });
  expect(parseScriptHead("--\n-- PostgreSQL database cluster dump\n--\n")).toMatchObject({
    isCluster: true,
    toolMajor: 0,
  });
});
