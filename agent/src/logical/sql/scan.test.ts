import { expect, test } from "vitest";
import { scanScript } from "./scan.ts";

async function* inChunks(text: string, size: number) {
  const bytes = Buffer.from(text, "utf8");
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Kind and text of each piece, parts of one joined. */
async function cut(text: string, size = 1 << 16): Promise<string[]> {
  const pieces: string[] = [];
  let isOpen = false;
  for await (const piece of scanScript(inChunks(text, size))) {
    const isPart = piece.kind === "statement" || piece.kind === "rows";
    const said = piece.bytes.toString("utf8");
    if (isOpen) pieces[pieces.length - 1] += said;
    else pieces.push(`${piece.kind}: ${said}`);
    isOpen = isPart && !piece.isEnd;
  }
  return pieces.filter((piece) => !piece.startsWith("space"));
}

const statements = [
  `select ';' || ";" || $$;$$ || $a$ $$ ; $a$ || e'\\';' || 'it''s;' -- ; comment\n;`,
  "select (1; 2) /* ; /* nested ; */ ; */;",
  "create or replace function f() returns int language sql begin atomic select case when true then 1 end; select 2; end;",
  "create table t (a$b$c int);",
  `comment on table t is E'a\\\\';`,
  "select e'a'\n'\\';';",
];

test("statements end where psql ends them, however the bytes come in", async () => {
  for (const size of [1, 3, 1 << 16])
    expect(await cut(statements.join("\n"), size)).toEqual(statements.map((each) => `statement: ${each}`));
});

test("rows of COPY are rows up to their end, whatever they look like", async () => {
  const rows = "\\\\.\n\\! ls\nx\\.\n; 'quote\n\\.\n";
  for (const size of [1, 5, 1 << 16])
    expect(
      await cut(`COPY "a FROM stdin".t (a) FROM stdin;\n${rows}COPY t FROM stdin;\n\\.\n-- end\n\\connect x\n`, size),
    ).toEqual([
      'statement: COPY "a FROM stdin".t (a) FROM stdin;',
      `rows: ${rows}`,
      "statement: COPY t FROM stdin;",
      "rows: \\.\n",
      "comment: -- end\n",
      "command: \\connect x\n",
    ]);
});

test("a script that ends within something, or hides a command in a statement, is refused", async () => {
  for (const text of [
    "select 'a",
    "select 1",
    "COPY t FROM stdin;\n1\n",
    "select 1 \\! ls;",
    "COPY t FROM stdin; select 1;\n",
  ])
    await expect(cut(text)).rejects.toMatchObject({ reason: "SCRIPT_UNREADABLE" });
  await expect(cut("SET client_encoding = 'SJIS';\nselect 1;")).rejects.toMatchObject({ reason: "SCRIPT_UNREADABLE" });
});

test("what comes next fits why the script cannot be read", async () => {
  const cutOff = { hint: expect.stringContaining("the file is cut off") as string };
  await expect(cut("COPY t FROM stdin;\n1\n")).rejects.toMatchObject(cutOff);
  await expect(cut("create table t (a")).rejects.toMatchObject(cutOff);
  await expect(cut("select 1 \\! ls;")).rejects.toMatchObject({
    hint: "name a file as pg_dump or pg_dumpall wrote it, whole and unchanged",
  });
  await expect(cut("SET client_encoding = 'SJIS';\nselect 1;")).rejects.toMatchObject({
    hint: "take the dump again with pg_dump --encoding=UTF8",
  });
});

test("backslashes escape in plain strings where the script has turned that on", async () => {
  const text = "SET standard_conforming_strings = off;\nselect 'a\\';b';";
  expect(await cut(text)).toEqual(["statement: SET standard_conforming_strings = off;", "statement: select 'a\\';b';"]);
});
