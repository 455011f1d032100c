import { fail } from "@coppice/proto/kit/failure";
import { parseConnect } from "./connect-command.ts";
import { type Piece, scanScript } from "./scan.ts";
import { clientEncodingIn, makeNameDecoder } from "./text-decoder.ts";

/** How a script is handed to psql. */
export interface ScriptOptions {
  /** Whether it is of pg_dumpall: then only the part of `database` is taken. */
  readonly isCluster: boolean;
  /** The database whose part is taken; "" takes the one that the script is of. */
  readonly database: string;
  /** All of it runs in one transaction of psql's: its own BEGIN and COMMIT (around large objects) go. */
  readonly isOneTransaction: boolean;
  /** Leaves out the settings that pg_dump begins with since 17, which an older server refuses. */
  readonly lacksToolSettings: boolean;
  /** Word that psql's restricted mode begins with; nobody else may know it. */
  readonly key: string;
}

/** What was seen in a script that came to its end. */
export interface ScriptSeen {
  rows: bigint;
  /** Kinds of statements left out because they reach beyond the database. */
  readonly leftOut: Set<string>;
}

const endLine = "-- PostgreSQL database dump complete";
/** Statements about things beside the database, as far as pg_dump -C, pg_dumpall or a hand write them. */
const beyond =
  /^(?:GRANT(?!\s[^;]*?\sON\s)|REVOKE(?!\s[^;]*?\sON\s)|(?:CREATE|ALTER|DROP)\s+(?:DATABASE|ROLE|USER(?!\s+MAPPING)|GROUP|TABLESPACE)\b|ALTER\s+SYSTEM\b|(?:COMMENT|SECURITY\s+LABEL\s+FOR\s+\S+)\s+ON\s+(?:DATABASE|ROLE|TABLESPACE)\b|(?:GRANT|REVOKE)\s[^;]*?\sON\s+(?:DATABASE|TABLESPACE|PARAMETER)\s)/i;
const transaction =
  /^(?:BEGIN|COMMIT|END|ROLLBACK|ABORT|START\s+TRANSACTION|PREPARE\s+TRANSACTION|SAVEPOINT|RELEASE)\b/i;
const newSettings = /^SET\s+transaction_timeout\b/i;
const longestSetting = 100;
const ownTransaction = /^(?:BEGIN|COMMIT)\s*;$/i;

function refuse(why: string): never {
  return fail("SCRIPT_REFUSED", `the SQL script ${why}`);
}

function countLines(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
  return count;
}

/** A statement's words, quoted names emptied and comments before it gone. */
function wordsOf(statement: string): string {
  return statement.replace(/^(?:\s+|\/\*[^]*?\*\/)+/, "").replaceAll(/"(?:[^"]|"")*"/g, '""');
}

/**
 * The part of a script for psql that fills one database, for a psql that is connected to it: in restricted mode, so that
 * nothing in it is run as a command of the host. Statements about roles, tablespaces and databases go, `seen.leftOut`
 * has their kinds; `seen.rows` counts the rows of COPY. Ends only when the script came to pg_dump's last line. Fails with
 * SCRIPT_UNREADABLE, SCRIPT_REFUSED for commands that pg_dump does not write, SCRIPT_TRUNCATED, or
 * DATABASE_NOT_IN_BACKUP.
 */
export async function* filterScript(
  chunks: AsyncIterable<Uint8Array>,
  options: ScriptOptions,
  seen: ScriptSeen,
): AsyncGenerator<Buffer, void> {
  const { isCluster, database, isOneTransaction, lacksToolSettings, key } = options;
  let section: string | undefined;
  let encoding = "UTF8";
  let isInside = !isCluster;
  let [isComplete, isTaken] = [false, false];
  const others = new Set<string>();
  yield Buffer.from(`\\restrict ${key}\n`);

  const connect = (command: string): void => {
    const next = parseConnect(command) ?? refuse("has a command of psql that pg_dump does not write");
    if (isCluster) {
      isInside = next === database;
      // A part that was left is over; pg_dumpall connects again only within it.
      if (isInside && isComplete) refuse(`has the database ${JSON.stringify(database)} twice`);
      if (!isInside) others.add(next);
    } else if (section !== undefined && section !== next) {
      refuse(`is of several databases: ${JSON.stringify(section)} and ${JSON.stringify(next)}`);
    } else if (database !== "" && next !== database) {
      fail("DATABASE_NOT_IN_BACKUP", `the SQL script is of the database ${JSON.stringify(next)}`);
    }
    section = next;
  };
  const command = (piece: Piece): void => {
    const text = makeNameDecoder(encoding)(piece.bytes).trimEnd();
    if (/^\\(un)?restrict \w+$/.test(text) || /^\\encoding \w+$/.test(text)) return;
    connect(text);
  };
  /** Whether the statement that begins with this goes to psql. */
  const isForDatabase = (text: string): boolean => {
    const outside = beyond.exec(text)?.[0];
    if (outside !== undefined) {
      seen.leftOut.add(/^\w+(?:\s+\w+)?/.exec(outside)?.[0].replaceAll(/\s+/g, " ").toUpperCase() ?? "");
      return false;
    }
    if (lacksToolSettings && newSettings.test(text)) return false;
    if (!isOneTransaction || !transaction.test(text)) return true;
    if (!ownTransaction.test(text)) refuse("ends transactions of its own, and all of it has to be one");
    return false;
  };

  let isTakenStatement = false;
  for await (const piece of scanScript(chunks)) {
    if (piece.kind === "command") {
      command(piece);
      continue;
    }
    // Names of databases are in what the script has said last, in whichever part.
    if (piece.kind === "statement" && piece.isStart && piece.bytes.length < longestSetting)
      encoding = clientEncodingIn(piece.bytes.toString("latin1")) ?? encoding;
    if (!isInside) continue;
    isTaken = true;
    if (piece.kind === "comment" && piece.bytes.toString("latin1").trimEnd() === endLine) {
      isComplete = true;
      if (isCluster) isInside = false;
    }
    if (piece.kind === "statement" && piece.isStart)
      isTakenStatement = isForDatabase(wordsOf(piece.bytes.toString("latin1")));
    if (piece.kind === "statement" && !isTakenStatement) continue;
    if (piece.kind === "rows") seen.rows += BigInt(countLines(piece.bytes) - (piece.isEnd ? 1 : 0));
    yield piece.bytes;
  }
  if (isCluster && !isTaken) {
    const list = [...others].map((name) => JSON.stringify(name)).join(", ");
    fail("DATABASE_NOT_IN_BACKUP", `the SQL script does not hold the database ${JSON.stringify(database)}`, {
      hint: `it holds ${list || "none"}`,
    });
  }
  if (!isComplete)
    fail("SCRIPT_TRUNCATED", `the SQL script ends without the line ${JSON.stringify(endLine)} that pg_dump ends with`);
}
