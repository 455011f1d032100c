import { chmod, open, readFile, rm } from "node:fs/promises";
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type RestoreSelection, RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { type DumpedDatabase, DumpedDatabaseSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import { runProgram } from "../host/run.ts";
import { replaceFile } from "../journal/durable-file.ts";
import { openFileSource } from "../logical/source/file-source.ts";
import type { RestoreSource } from "../logical/source/source.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { findToolAccess } from "../postgres/tool-access.ts";
import { findTools, toolPath } from "../postgres/tools.ts";
import { type ChosenRelations, patternOf } from "./choose-relations.ts";
import { findPart, type PartToFind } from "./find-part.ts";
import { requireDumped } from "./lacking.ts";

/** What is dumped; `isForPeople`: nothing is in the archive but what was chosen. Else it has all definitions, to choose by. */
export interface PartToDump extends PartToFind {
  readonly major: number;
  /** The archive that is made. */
  readonly file: string;
  readonly onBytes: (bytes: bigint) => void;
  readonly log: (line: string) => void;
}

/** Above that a list of what to leave out would be too long for a command line: for a load all rows are dumped then. */
const mostLeftOut = 10_000;
const askEveryMs = 500;
/** Nobody else is there who could hold a lock, and what waits for one all the same is to come to an end. */
const lockWaitMs = 300_000;

function contentArguments({ contents, noOwner, noPrivileges }: RestoreSelection, isForPeople: boolean): string[] {
  const isSchemaOnly = contents === DumpContents.SCHEMA_ONLY;
  // What is loaded is told the rest of it when it is.
  if (!isForPeople) return isSchemaOnly ? ["--schema-only"] : [];
  return [
    ...(isSchemaOnly ? ["--schema-only"] : []),
    ...(contents === DumpContents.DATA_ONLY ? ["--data-only"] : []),
    ...(noOwner ? ["--no-owner"] : []),
    ...(noPrivileges ? ["--no-privileges"] : []),
  ];
}

function partArguments(
  { schemas, tables }: RestoreSelection,
  { chosen, others, otherSchemas }: ChosenRelations,
  isForPeople: boolean,
): string[] {
  if (!isForPeople) {
    const filled = others.filter(({ kind }) => kind === "r" || kind === "m");
    if (filled.length > mostLeftOut) return ["-B"];
    return ["-B", ...filled.map((each) => `--exclude-table-data=${patternOf(each)}`)];
  }
  if (tables.length > 0) return chosen.map((each) => `--table=${patternOf(each)}`);
  // pg_dump takes no single table beside schemas: where partitions lie in another one, that goes without its other tables.
  const left = others.filter(({ schema }) => otherSchemas.includes(schema));
  if (left.length > mostLeftOut)
    return fail("SELECTION_REFUSED", `partitions of what was chosen lie among ${left.length} other tables`, {
      hint: "restore it into a database, with --as, or the whole database into a file",
    });
  return [
    ...[...schemas, ...otherSchemas].map((schema) => `--schema=${quoteIdentifier(schema)}`),
    ...left.map((each) => `--exclude-table=${patternOf(each)}`),
  ];
}

function noRoom(error: unknown, file: string): unknown {
  const said = isFailure(error, "PROGRAM_FAILED") ? `${error.message} ${error.metadata["stderr"] ?? ""}` : "";
  if (!/No space left on device|Disk quota exceeded/.test(said)) return error;
  return new Failure("SPACE_MISSING", `there was no room for the dump ${file}`, { cause: error });
}

/** What was dumped. */
export interface DumpedPart {
  /** What has to be known of the database to load it. */
  readonly dumped: DumpedDatabase;
  /** What comes back otherwise than it was. */
  readonly warnings: string[];
}

/**
 * Dumps a database, or a part of it, into a new archive of pg_dump (0600), and makes sure that it is on the disk and that
 * pg_restore reads it and that what was chosen is in it. Fails with DATABASE_NOT_FOUND, SELECTION_REFUSED, SPACE_MISSING,
 * PROGRAM_FAILED, ARCHIVE_DIFFERS, FILE_EXISTS; then there is no such file.
 */
export async function dumpOut(part: PartToDump): Promise<DumpedPart> {
  const { endpoint, major, database, selection, file, isForPeople, signal, onBytes, log } = part;
  const { database: found, chosen, warnings } = await findPart(part);
  for (const warning of warnings) log(`warning: ${warning}`);
  const tools = await findTools(major, { signal });
  const access = await findToolAccess(endpoint, { tools, signal });
  const wanted = selection ?? create(RestoreSelectionSchema);
  const args = [
    "--format=custom",
    "--compress=1",
    `--lock-wait-timeout=${lockWaitMs}`,
    ...contentArguments(wanted, isForPeople),
    ...(chosen ? partArguments(wanted, chosen, isForPeople) : []),
  ];
  const handle = await open(file, "wx", 0o600).catch((error: unknown) => {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    if (code === "EEXIST") return fail("FILE_EXISTS", `the file ${file} is there already`, { cause: error });
    return fail("FILE_NOT_WRITABLE", `the agent cannot make the file ${file}: ${code}`, { cause: error });
  });
  try {
    await using _closed = handle;
    const timer = setInterval(() => {
      handle.stat({ bigint: true }).then(
        ({ size }) => onBytes(size),
        () => {},
      );
    }, askEveryMs);
    try {
      const program = access.connecting("pg_dump", database, args, "coppice scratch");
      await using chain = await openChain([program], {
        signal,
        outputFile: handle.fd,
        onStderr: (_program, line) => log(line),
      });
      chain.output.resume();
      await chain.done;
    } finally {
      clearInterval(timer);
    }
    await handle.sync();
    const list = { file: toolPath(tools, "pg_restore"), args: ["--list", "--file=/dev/null", file] };
    await runProgram(list, { signal });
    const { contents } = await openFileSource({ path: file, identities: undefined, signal });
    if (chosen && contents) requireDumped(chosen.chosen, wanted.contents, contents);
  } catch (error) {
    await rm(file, { force: true });
    throw noRoom(error, file);
  }
  const dumped = create(DumpedDatabaseSchema, {
    oid: found.oid,
    name: found.name,
    format: "custom",
    // Of a part nobody knows how large it becomes.
    sizeBytes: chosen ? 0n : (found.sizeBytes ?? 0n),
    properties: found.properties,
    roles: [...found.roles],
    tablespaces: [...found.tablespaces],
  });
  return { dumped, warnings };
}

const besideDump = (file: string) => `${file}.json`;

/** Writes down beside a dump what has to be known to load it and to tell of it, for whoever settles. */
export async function keepDumped(file: string, { dumped, warnings }: DumpedPart): Promise<void> {
  await replaceFile(besideDump(file), JSON.stringify({ dumped: toJson(DumpedDatabaseSchema, dumped), warnings }));
  await chmod(besideDump(file), 0o600);
}

/** A dump of which that was written down, as what a restore is of. */
export interface KeptDump {
  readonly source: RestoreSource;
  readonly warnings: string[];
}

/** What was written down; before there were warnings it was what has to be known alone. */
function readKept(text: string): { readonly dumped: JsonValue; readonly warnings: string[] } {
  const kept = JSON.parse(text) as
    | { dumped: JsonValue; warnings: string[] }
    | { [field: string]: JsonValue; dumped?: never };
  return kept.dumped === undefined ? { dumped: kept, warnings: [] } : kept;
}

/** Opens such a dump; undefined where it never came so far. */
export async function openDumped(file: string, signal: AbortSignal): Promise<KeptDump | undefined> {
  const text = await readFile(besideDump(file), "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const kept = readKept(text);
  const dumped = fromJson(DumpedDatabaseSchema, kept.dumped);
  const source = await openFileSource({ path: file, identities: undefined, signal });
  return { source: { ...source, title: "what was recovered", dumped }, warnings: kept.warnings };
}
