// One thing: what pg_dumpall --globals-only writes, statement by statement; words, names and kinds belong together.
import { fail } from "@coppice/proto/kit/failure";
import { scanScript } from "../sql/scan.ts";
import { clientEncodingIn, makeTextDecoder } from "../sql/text-decoder.ts";

/** One statement of pg_dumpall --globals-only; `text` may hold a password hash and never gets into a message. */
export type GlobalStatement =
  | { readonly kind: "create-role"; readonly role: string; readonly text: string }
  /** Attributes, settings, comment or label of a role. */
  | { readonly kind: "alter-role"; readonly role: string; readonly text: string; readonly change: RoleChange }
  | {
      readonly kind: "membership";
      readonly role: string;
      readonly member: string;
      readonly grantor: string | undefined;
      readonly text: string;
      /** The statement without its GRANTED BY. */
      readonly plainText: string;
    }
  /** Privileges on a setting of the server. */
  | { readonly kind: "parameter"; readonly grantee: string; readonly text: string }
  | {
      readonly kind: "create-tablespace";
      readonly tablespace: string;
      readonly owner: string;
      readonly location: string;
      readonly text: string;
    }
  /** Options, privileges, comment or label of a tablespace. */
  | { readonly kind: "alter-tablespace"; readonly tablespace: string; readonly text: string };

/** A statement about a role without some attributes, which it is then neither given nor denied. */
export interface SmallerForm {
  readonly text: string;
  /** Attributes that the role should have had. */
  readonly leftOut: readonly string[];
}

/** What a statement says of a role. */
export type RoleChange =
  | {
      readonly what: "attributes";
      /** Forms of the statement that ask for less and less, for who is no superuser. */
      readonly smaller: readonly SmallerForm[];
      readonly attributes: readonly string[];
      readonly hasPassword: boolean;
      readonly limit: number;
      readonly validUntil: string | undefined;
    }
  | { readonly what: "setting"; readonly name: string; readonly value: string; readonly database: string | undefined }
  | { readonly what: "other" };

interface Word {
  /** Unquoted: a name as the catalog has it, a keyword in lower case, or a string's value. */
  readonly value: string;
  readonly kind: "word" | "name" | "string" | "sign";
  readonly begin: number;
}

const wordPattern =
  /\s+|"((?:[^"]|"")*)"|(E?)'((?:[^'\\]|''|\\[^])*)'|([A-Za-z_\u0080-\uffff][\w$\u0080-\uffff.]*)|(-?[0-9.]+)|([^])/gu;

function unescape(text: string, isEscaped: boolean): string {
  const plain = text.replaceAll("''", "'");
  return isEscaped ? plain.replaceAll(/\\(.)/gs, "$1") : plain;
}

function wordsOf(text: string): Word[] {
  const words: Word[] = [];
  for (const found of text.matchAll(wordPattern)) {
    const [all, name, escape, string, word, number, sign] = found;
    const begin = found.index;
    if (name !== undefined) words.push({ kind: "name", value: name.replaceAll('""', '"'), begin });
    else if (string !== undefined) words.push({ kind: "string", value: unescape(string, escape !== ""), begin });
    else if (word !== undefined) words.push({ kind: "word", value: word.toLowerCase(), begin });
    else if (number !== undefined) words.push({ kind: "word", value: number, begin });
    else if (sign !== undefined && all.trim() !== "") words.push({ kind: "sign", value: sign, begin });
  }
  return words;
}

function unknown(words: readonly Word[]): never {
  const begin = words.slice(0, 3).filter(({ kind }) => kind === "word");
  return fail(
    "GLOBALS_UNREADABLE",
    `the globals hold a statement ${begin.map(({ value }) => value).join(" ")} that is not known`,
  );
}

/** Walks the words of one statement. */
function parseStatement(text: string): GlobalStatement | undefined {
  const words = wordsOf(text);
  const at = (index: number): string => words[index]?.value ?? unknown(words);
  const isWord = (index: number, ...expected: string[]) =>
    expected.every((value, offset) => words[index + offset]?.kind === "word" && words[index + offset]?.value === value);
  const find = (...expected: string[]) => words.findIndex((_, index) => isWord(index, ...expected));

  if (isWord(0, "set") || (isWord(0, "select") && at(1).startsWith("pg_catalog.set_config"))) return undefined;
  if (isWord(0, "create", "role")) return { kind: "create-role", role: at(2), text };
  if (isWord(0, "alter", "role")) return { kind: "alter-role", role: at(2), text, change: parseChange(words, text) };
  if (isWord(0, "comment", "on", "role")) return { kind: "alter-role", role: at(3), text, change: { what: "other" } };
  const label = find("on", "role");
  if (isWord(0, "security", "label") && label > 0)
    return { kind: "alter-role", role: at(label + 2), text, change: { what: "other" } };
  if (isWord(0, "create", "tablespace")) {
    const [owner, location] = [find("owner"), find("location")];
    return {
      kind: "create-tablespace",
      tablespace: at(2),
      owner: owner < 0 ? "" : at(owner + 1),
      location: at(location + 1),
      text,
    };
  }
  if (isWord(0, "alter", "tablespace")) return { kind: "alter-tablespace", tablespace: at(2), text };
  const space = find("on", "tablespace");
  if (space > 0) return { kind: "alter-tablespace", tablespace: at(space + 2), text };
  if (!isWord(0, "grant") && !isWord(0, "revoke")) return unknown(words);
  if (find("on", "parameter") > 0) {
    const to = words.findLastIndex((_, index) => isWord(index, "to") || isWord(index, "from"));
    return { kind: "parameter", grantee: at(to + 1), text };
  }
  if (!isWord(0, "grant") || !isWord(2, "to")) return unknown(words);
  const by = find("granted", "by");
  const plainText = by < 0 ? text : `${text.slice(0, words[by]?.begin)};`;
  return { kind: "membership", role: at(1), member: at(3), grantor: by < 0 ? undefined : at(by + 2), text, plainText };
}

/** Attributes that not everybody who may make roles may give, or even deny; the second list is PostgreSQL 16's. */
const reserved = [
  /^(?:no)?(?:superuser|replication|bypassrls)$/,
  /^(?:no)?(?:superuser|replication|bypassrls|createdb)$/,
];

function withoutAttributes(words: readonly Word[], text: string, attributes: RegExp): SmallerForm {
  const isOut = ({ kind, value }: Word) => kind === "word" && attributes.test(value);
  const kept = words.map((word, index) => (isOut(word) ? "" : text.slice(word.begin, words[index + 1]?.begin)));
  const leftOut = words.filter((word) => isOut(word) && !word.value.startsWith("no")).map(({ value }) => value);
  return { text: kept.join(""), leftOut };
}

function parseChange(words: readonly Word[], text: string): RoleChange {
  const values = words.map(({ kind, value }) => (kind === "word" ? value : ""));
  const inDatabase = values[3] === "in" && values[4] === "database" ? words[5]?.value : undefined;
  const set = inDatabase === undefined ? 3 : 6;
  if (values[set] === "set")
    return {
      what: "setting",
      name: words[set + 1]?.value ?? unknown(words),
      value: words
        .slice(set + 3)
        .filter(({ kind }) => kind !== "sign")
        .map(({ value }) => value)
        .join(", "),
      database: inDatabase,
    };
  if (values[3] !== "with") return { what: "other" };
  const [limit, until] = [values.indexOf("limit"), values.indexOf("until")];
  return {
    what: "attributes",
    smaller: reserved.map((attributes) => withoutAttributes(words, text, attributes)),
    attributes: values.filter((value) =>
      /^(no)?(superuser|inherit|createrole|createdb|login|replication|bypassrls)$/.test(value),
    ),
    hasPassword: values.includes("password"),
    limit: limit < 0 ? -1 : Number(words[limit + 1]?.value),
    validUntil: until < 0 ? undefined : words[until + 1]?.value,
  };
}

/**
 * Parses the output of pg_dumpall --globals-only, whatever names it holds and in whatever encoding it says that they are.
 * Fails with GLOBALS_UNREADABLE for a statement that is none of a role or a tablespace, or that cannot be read in that
 * encoding, and as scanScript does.
 */
export async function parseGlobals(chunks: AsyncIterable<Uint8Array>): Promise<GlobalStatement[]> {
  const statements: GlobalStatement[] = [];
  let parts: Buffer[] = [];
  let encoding = "UTF8";
  for await (const piece of scanScript(chunks)) {
    if (piece.kind === "rows") fail("GLOBALS_UNREADABLE", "the globals hold rows of a table");
    if (piece.kind === "command" && !/^\\(?:(?:un)?restrict|connect) /.test(piece.bytes.toString("latin1")))
      fail("GLOBALS_UNREADABLE", "the globals hold a command of psql");
    if (piece.kind !== "statement") continue;
    parts.push(piece.bytes);
    if (!piece.isEnd) continue;
    const text =
      makeTextDecoder(encoding)(Buffer.concat(parts)) ??
      fail("GLOBALS_UNREADABLE", `the globals hold a statement that is no text in their encoding ${encoding}`);
    parts = [];
    encoding = clientEncodingIn(text) ?? encoding;
    const statement = parseStatement(text);
    if (statement) statements.push(statement);
  }
  return statements;
}
