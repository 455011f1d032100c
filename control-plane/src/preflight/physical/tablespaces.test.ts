import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { namedTablespaces, tablespacePlaces } from "./tablespaces.ts";

const stored = [
  { oid: 16_400, location: "/srv/fast" },
  { oid: 16_401, location: "/srv/slow" },
];

function refusal(asked: Record<string, string>): string {
  try {
    tablespacePlaces(stored, asked);
  } catch (error) {
    if (error instanceof Failure) return error.message;
    throw error;
  }
  return "";
}

test("a tablespace goes where it was, or where its oid or former folder says", () => {
  expect(tablespacePlaces(stored, {})).toEqual({ 16_400: "/srv/fast", 16_401: "/srv/slow" });
  expect(tablespacePlaces(stored, { "16400": "/a", "/srv/slow": "/b" })).toEqual({ 16_400: "/a", 16_401: "/b" });
  expect(namedTablespaces(stored, {})).toEqual([]);
  expect(namedTablespaces(stored, { "/srv/slow": "/srv/slow" })).toEqual([16_401]);
});

test("what the backup lacks, no folder, and one folder for two are refused", () => {
  expect(refusal({ "/srv/none": "/a" })).toBe('the backup has no tablespace "/srv/none"');
  expect(refusal({ "16400": "relative" })).toBe('"relative" cannot be the folder of a tablespace');
  expect(refusal({ "16400": "/srv/slow" })).toBe("two tablespaces would go to /srv/slow");
});
