import { Command } from "commander";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { expect, test } from "vitest";
import { nameTable } from "../../operation/name-part.ts";
import { formatRestoreCommand, readRestoreFlags, restoreOptions, restoreRequest } from "./restore-flags.ts";

const now = new Date("2026-11-21T12:00:00Z");

function parse(words: readonly string[], env: Record<string, string> = {}) {
  const command = new Command().exitOverride();
  for (const option of restoreOptions()) command.addOption(option);
  return readRestoreFlags(command.parse(words, { from: "user" }).opts(), env);
}

const line =
  `--database it's --as copy --schema a --table s."x.y" --table t --no-owner --no-privileges --checksums --jobs 2`.split(
    " ",
  );

test("flags become a request, and the same command line again", () => {
  const flags = parse(line);
  expect(restoreRequest("shop", flags, now)).toMatchObject({
    cluster: "shop",
    database: "it's",
    targetDatabase: "copy",
    what: RestoreWhat.DATABASE,
    jobs: 2,
    selection: {
      schemas: ["a"],
      tables: [
        { schema: "s", name: "x.y" },
        { schema: "", name: "t" },
      ],
      noOwner: true,
      noPrivileges: true,
      checksums: true,
    },
  });
  expect(formatRestoreCommand("shop", flags)).toBe(
    `coppice restore create shop --database 'it'\\''s' --as copy --schema a --table 's."x.y"' --table t --no-owner ` +
      "--no-privileges --checksums --jobs 2",
  );
});

test("every flag can be said by the environment, and a flag counts more", () => {
  const env = {
    COPPICE_RESTORE_ALL: "true",
    COPPICE_RESTORE_REPLACE: "no",
    COPPICE_RESTORE_ROLE: "app,admin",
    COPPICE_RESTORE_NO_TABLESPACES: "1",
    COPPICE_RESTORE_TO: "staging",
    COPPICE_RESTORE_JOBS: "4",
    COPPICE_RESTORE_BACKUP: "",
  };
  const flags = parse(["--to", "other"], env);
  expect(flags).toEqual({ all: true, role: ["app", "admin"], noTablespaces: true, to: "other", jobs: 4 });
  expect(restoreRequest("shop", flags, now)).toMatchObject({
    what: RestoreWhat.CLUSTER,
    roles: ["app", "admin"],
    backup: "",
  });
  const variables = restoreOptions().map(({ description }) => /\[(COPPICE_RESTORE_\w+)\]$/.exec(description)?.[1]);
  expect(variables).not.toContain(undefined);
  expect(new Set(variables).size).toBe(variables.length);
});

test("a name with a comma is given by the environment in double quotes", () => {
  const flags = parse([], {
    COPPICE_RESTORE_TABLE: 'sales."a,b", t,"odd,""s""".x',
    COPPICE_RESTORE_SCHEMA: '"a,b",c',
    COPPICE_RESTORE_ROLE: '"Team, ""A""", app ,',
  });
  expect(flags).toEqual({
    table: ['sales."a,b"', "t", '"odd,""s""".x'],
    schema: ["a,b", "c"],
    role: ['Team, "A"', "app"],
  });
  expect(restoreRequest("shop", flags, now).selection?.tables).toEqual([
    { schema: "sales", name: "a,b" },
    { schema: "", name: "t" },
    { schema: 'odd,"s"', name: "x" },
  ]);
  expect(() => parse([], { COPPICE_RESTORE_ROLE: '"a,b' })).toThrow("where a double quote has no end");
});

test("a table is named as it is given again, whatever is in its name", () => {
  for (const [schema, name] of [
    ["S x", 'tab"le ü'],
    ["a.b", "c.d"],
    ["", "t"],
  ] as const) {
    const given = restoreRequest("shop", parse(["--table", nameTable(schema, name)]), now);
    expect(given.selection?.tables).toEqual([{ schema, name }]);
  }
  expect(() => restoreRequest("shop", parse(["--table", 'S x.tab"le ü']), now)).toThrow(
    expect.objectContaining({ hint: expect.stringContaining("a dot or a double quote") as string }) as Error,
  );
});

test("a file is named with its host", () => {
  const request = restoreRequest(
    "shop",
    parse(["--from", "db7:/srv/x.sql.gz", "--as", "orders", "--into", "--data-only"]),
    now,
  );
  expect(request).toMatchObject({ fileHost: "db7", file: "/srv/x.sql.gz", into: true });
  expect(request.selection?.contents).toBe(DumpContents.DATA_ONLY);
});

test.each([
  [["--from", "/srv/x.sql.gz"], "does not say on which host"],
  [["--all", "--globals"], "contradict each other"],
  [["--schema-only", "--data-only"], "contradict each other"],
  [["--jobs", "0"], '--jobs is "0"'],
  [["--table", 'a"b'], "is not the name of a table"],
])("%j is refused before anything is asked for", (words, message) => {
  expect(() => restoreRequest("shop", parse(words), now)).toThrow(message);
});

test("a variable that says neither yes nor no is refused", () => {
  expect(() => parse([], { COPPICE_RESTORE_REPLACE: "maybe" })).toThrow('COPPICE_RESTORE_REPLACE is "maybe"');
});

test("a variable that is named like one of a restore and is none is refused, with the nearest one", () => {
  const refusal = (variable: string): unknown => {
    try {
      parse([], { [variable]: "orders", COPPICE_RESTORE_TO: "staging", HOME: "/root" });
    } catch (error) {
      return error;
    }
    return undefined;
  };
  expect(refusal("COPPICE_RESTORE_DATABSE")).toMatchObject({
    reason: "INVALID_FIELD",
    message: "COPPICE_RESTORE_DATABSE is set, and there is no such variable",
    hint: "unset it; perhaps COPPICE_RESTORE_DATABASE was meant",
  });
  expect(refusal("COPPICE_RESTORE_TABLES")).toMatchObject({
    hint: expect.stringContaining("COPPICE_RESTORE_TABLE was") as string,
  });
  expect(refusal("COPPICE_RESTORED")).toBeUndefined();
});
