import { expect, test } from "vitest";
import { clientEncodingIn, makeNameDecoder, makeTextDecoder } from "./text-decoder.ts";

test("text is read in the encoding that it is in, and never guessed", () => {
  const cases: [encoding: string, bytes: number[], text: string | undefined][] = [
    ["UTF8", [0xc3, 0xbc], "ü"],
    ["UTF8", [0xfc], undefined],
    ["SQL_ASCII", [0xc3, 0xbc], "ü"],
    ["LATIN1", [0xfc, 0x80], "ü\u0080"],
    ["LATIN9", [0xa4], "€"],
    ["WIN1252", [0x80], "€"],
    ["KOI8R", [0xc1], "а"],
    ["EUC_JP", [0xc6, 0xfc], "日"],
    ["EUC_JP", [0xc6], undefined],
    ["EUC_TW", [0x61], "a"],
    ["EUC_TW", [0xc4, 0xe3], undefined],
  ];
  for (const [encoding, bytes, text] of cases)
    expect([encoding, makeTextDecoder(encoding)(Buffer.from(bytes))]).toEqual([encoding, text]);
});

test("names that cannot be read stay apart from each other", () => {
  const show = makeNameDecoder("EUC_TW");
  expect([show(Buffer.from([0x61, 0xc4])), show(Buffer.from([0x61, 0xe3]))]).toEqual(["a\\xc4", "a\\xe3"]);
});

test("the statement that sets the encoding is known however it is written", () => {
  for (const statement of ["SET client_encoding = 'LATIN1';", "set client_encoding to latin1 ;"])
    expect(clientEncodingIn(statement)?.toUpperCase()).toBe("LATIN1");
  for (const statement of ["SET client_min_messages = warning;", "ALTER ROLE a SET client_encoding TO 'LATIN1';"])
    expect(clientEncodingIn(statement)).toBeUndefined();
});
