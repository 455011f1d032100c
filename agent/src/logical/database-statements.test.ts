import { create } from "@bufbuild/protobuf";
import { DatabasePropertiesSchema } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { expect, test } from "vitest";
import { admissionStatement, createDatabaseStatement, propertyStatements } from "./database-statements.ts";

const plain = {
  owner: "o'w",
  encoding: "UTF8",
  localeProvider: "libc",
  lcCollate: "C",
  lcCtype: "C.UTF-8",
  connectionLimit: -1,
};

const place = { name: "d", oid: 20_000, tablespace: undefined };

test("a database is created with what cannot be changed later", () => {
  expect(createDatabaseStatement({ ...place, name: 'd"b' }, create(DatabasePropertiesSchema, plain))).toBe(
    `CREATE DATABASE "d""b" WITH OID 20000 TEMPLATE template0 OWNER "o'w" ENCODING 'UTF8' LOCALE_PROVIDER "libc" LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'`,
  );
  const icu = create(DatabasePropertiesSchema, {
    ...plain,
    localeProvider: "icu",
    locale: "de-DE",
    icuRules: "&a < b",
  });
  expect(createDatabaseStatement({ ...place, tablespace: "fast" }, icu)).toContain(
    `ICU_LOCALE 'de-DE' ICU_RULES '&a < b' TABLESPACE "fast"`,
  );
  const builtin = create(DatabasePropertiesSchema, { ...plain, localeProvider: "builtin", locale: "C.UTF-8" });
  expect(createDatabaseStatement(place, builtin)).toContain("BUILTIN_LOCALE 'C.UTF-8'");
});

test("lists of names are given name by name, and other values as one text", () => {
  const settings = [
    { role: "", name: "search_path", value: `"$user", public, "od""d, one"` },
    { role: "", name: "search_path", value: "" },
    { role: "app", name: "my.text", value: "a, b" },
  ];
  const texts = propertyStatements("d", create(DatabasePropertiesSchema, { ...plain, settings })).map(
    ({ text }) => text,
  );
  expect(texts).toEqual([
    `ALTER DATABASE "d" SET "search_path" TO '$user', 'public', 'od"d, one'`,
    `ALTER DATABASE "d" SET "search_path" TO ''`,
    `ALTER ROLE "app" IN DATABASE "d" SET "my.text" TO 'a, b'`,
  ]);
});

test("an access list is rebuilt from nothing, each grant by who granted it, and none means the default", () => {
  expect(propertyStatements("d", create(DatabasePropertiesSchema, plain))).toEqual([]);
  const grants = [
    { grantor: "o'w", grantee: "a", privilege: "CONNECT", grantable: true },
    { grantor: "a", grantee: "", privilege: "CONNECT", grantable: false },
  ];
  const statements = propertyStatements("d", create(DatabasePropertiesSchema, { ...plain, hasAcl: true, grants }));
  expect(statements.map(({ text, asRole, isRequired }) => [text, asRole, isRequired])).toEqual([
    [`REVOKE ALL ON DATABASE "d" FROM PUBLIC`, undefined, true],
    [`REVOKE ALL ON DATABASE "d" FROM "o'w"`, undefined, true],
    [`GRANT CONNECT ON DATABASE "d" TO "a" WITH GRANT OPTION`, undefined, false],
    [`GRANT CONNECT ON DATABASE "d" TO PUBLIC`, "a", false],
  ]);
});

test("limit and template mark come in one statement of their own", () => {
  const properties = create(DatabasePropertiesSchema, { ...plain, connectionLimit: 7, isTemplate: true });
  expect(admissionStatement("d", properties)).toBe(`ALTER DATABASE "d" WITH CONNECTION LIMIT 7 IS_TEMPLATE true`);
});
