import { expect, test } from "vitest";
import { isScriptEnd } from "./verify-content.ts";

const ofDatabase = "--\n-- PostgreSQL database dump complete\n--\n\n";
const ofCluster = "--\n-- PostgreSQL database cluster dump complete\n--\n\n";

test("a script ends with its tool's last line, and with nothing after it but the end of the restriction", () => {
  expect(isScriptEnd(ofDatabase, false)).toBe(true);
  expect(isScriptEnd(`${ofDatabase}\\unrestrict a1B2\n\n`, false)).toBe(true);
  expect(isScriptEnd(ofCluster, true)).toBe(true);
  expect(isScriptEnd(`x${ofDatabase}`, false)).toBe(true);
  expect(isScriptEnd(ofDatabase.trimEnd(), false)).toBe(false);
  expect(isScriptEnd("CREATE TABLE t ();\n", false)).toBe(false);
});

test("a script of a cluster that was cut off after one of its databases does not count as whole", () => {
  expect(isScriptEnd(`${ofDatabase}\\unrestrict a1B2\n\n`, true)).toBe(false);
  expect(isScriptEnd(`${ofDatabase}\\unrestrict a1B2\n\n--\n-- Database "stock" dump\n--\n`, true)).toBe(false);
  expect(isScriptEnd(`${ofDatabase}CREATE TABLE t ();\n`, false)).toBe(false);
  expect(isScriptEnd(`${ofCluster}CREATE TABLE t ();\n`, true)).toBe(false);
});
