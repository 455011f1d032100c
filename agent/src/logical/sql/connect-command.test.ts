import { expect, test } from "vitest";
import { parseConnect } from "./connect-command.ts";

test("the commands that pg_dump writes lead to their databases, and others to none", () => {
  expect(parseConnect("\\connect shop")).toBe("shop");
  expect(parseConnect('\\connect "Shop"')).toBe("Shop");
  expect(
    parseConnect(String.raw`\connect -reuse-previous=on "dbname='it\\'s ""a"" \\\\ b'"`.replaceAll("\\\\", "\\")),
  ).toBe(`it's "a" \\ b`);
  expect(parseConnect("\\connect -reuse-previous=on \"dbname='a' host=evil\"")).toBeUndefined();
  expect(parseConnect("\\connect shop other")).toBeUndefined();
  expect(parseConnect("\\! ls")).toBeUndefined();
});
