import { expect, test } from "vitest";
import { parseGlobals } from "./statements.ts";

async function* once(text: string | Buffer) {
  yield Buffer.from(text);
}

test("the statements of pg_dumpall are told apart, whatever the names hold", async () => {
  const text = `\\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE "a; b
$x$ ""c""";
ALTER ROLE app WITH NOSUPERUSER INHERIT LOGIN CONNECTION LIMIT 3 PASSWORD 'SCRAM;''x' VALID UNTIL '2040-01-01 00:00:00+00';
ALTER ROLE app SET search_path TO '$user', 'a, b';
ALTER ROLE app IN DATABASE shop SET work_mem TO '1MB';
COMMENT ON ROLE app IS 'it''s';
GRANT staff TO app WITH ADMIN OPTION, INHERIT TRUE GRANTED BY "po stgres";
GRANT SET,ALTER SYSTEM ON PARAMETER work_mem TO staff WITH GRANT OPTION;
CREATE TABLESPACE "sp ace" OWNER staff LOCATION '/a''b';
GRANT ALL ON TABLESPACE "sp ace" TO app;
\\unrestrict abc
`;
  const parsed = await parseGlobals(once(text));
  expect(parsed).toMatchObject([
    { kind: "create-role", role: 'a; b\n$x$ "c"' },
    {
      kind: "alter-role",
      change: { what: "attributes", attributes: ["nosuperuser", "inherit", "login"], hasPassword: true, limit: 3 },
    },
    { kind: "alter-role", change: { what: "setting", name: "search_path", value: "$user, a, b", database: undefined } },
    { kind: "alter-role", change: { what: "setting", database: "shop" } },
    { kind: "alter-role", role: "app", change: { what: "other" } },
    {
      kind: "membership",
      role: "staff",
      member: "app",
      grantor: "po stgres",
      plainText: "GRANT staff TO app WITH ADMIN OPTION, INHERIT TRUE ;",
    },
    { kind: "parameter", grantee: "staff" },
    { kind: "create-tablespace", tablespace: "sp ace", owner: "staff", location: "/a'b" },
    { kind: "alter-tablespace", tablespace: "sp ace" },
  ]);
});

test("an ALTER ROLE has smaller forms without what only some may give, and nothing of its names and words is lost", async () => {
  const text = `ALTER ROLE "superuser login" WITH NOSUPERUSER CREATEDB LOGIN REPLICATION BYPASSRLS PASSWORD 'no superuser;''x';\n`;
  const [statement] = await parseGlobals(once(text));
  expect(statement).toMatchObject({
    change: {
      smaller: [
        {
          text: `ALTER ROLE "superuser login" WITH CREATEDB LOGIN PASSWORD 'no superuser;''x';`,
          leftOut: ["replication", "bypassrls"],
        },
        {
          text: `ALTER ROLE "superuser login" WITH LOGIN PASSWORD 'no superuser;''x';`,
          leftOut: ["createdb", "replication", "bypassrls"],
        },
      ],
    },
  });
});

test("names are read in the encoding that the globals say, and never guessed", async () => {
  const inLatin1 = (encoding: string) =>
    once(Buffer.from(`SET client_encoding = '${encoding}';\nCREATE ROLE "m\xfcller";\n`, "latin1"));
  expect(await parseGlobals(inLatin1("LATIN1"))).toMatchObject([{ role: "müller", text: 'CREATE ROLE "müller";' }]);
  for (const encoding of ["UTF8", "SQL_ASCII", "EUC_TW"])
    await expect(parseGlobals(inLatin1(encoding))).rejects.toMatchObject({ reason: "GLOBALS_UNREADABLE" });
});

test("what is none of a role or a tablespace is refused", async () => {
  for (const text of ["DROP TABLE t;", "\\! ls\n", "COPY t FROM stdin;\n\\.\n"])
    await expect(parseGlobals(once(text))).rejects.toMatchObject({ reason: "GLOBALS_UNREADABLE" });
});
