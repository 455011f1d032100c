import { randomBytes } from "node:crypto";
import { chown, open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import { runProgram } from "../host/run.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import { openDecoded, openSource, type RestoreSource } from "./source/source.ts";
import { filterScript, type ScriptSeen } from "./sql/script.ts";

/** A dump and where it goes. */
export interface DumpToLoad {
  readonly source: RestoreSource;
  /** Of a script of several databases the one whose part is loaded; "" otherwise. */
  readonly section: string;
  readonly access: ToolAccess;
  /** Whether the server refuses what dumps of the tools begin with: then psql loads what pg_restore writes as a script. */
  readonly lacksToolSettings: boolean;
  /** The database that it goes into. */
  readonly database: string;
  /** Connections at the same time; more than one needs room for the plain archive in the work folder. */
  readonly jobs: number;
  /** All of it or nothing, in one transaction; by one job. */
  readonly isOneTransaction: boolean;
  /** What its sessions call themselves; "coppice" when left out. */
  readonly session?: string | undefined;
  /** Options of pg_restore. */
  readonly options: readonly string[];
  /** What of an archive is loaded, as pg_restore --use-list reads it; undefined is all. */
  readonly useList: string | undefined;
  /** Folder of the agent; the user of the tools must be able to enter it for several jobs and a list. */
  readonly workFolder: string;
  /** Names the files in the work folder. */
  readonly stagedDatabase: string;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
  readonly log: (line: string) => void;
}

/** What was seen of a script while it was loaded; nothing of an archive. */
export interface Loaded {
  readonly warnings: string[];
  /** Rows of COPY in a script. */
  readonly scriptRows: bigint | undefined;
}

/** What a restore may leave in the work folder; named for the staged database, so that it can be found again. */
export function workFiles(workFolder: string, stagedDatabase: string): { archive: string; useList: string } {
  const place = join(workFolder, stagedDatabase);
  return { archive: `${place}.dump`, useList: `${place}.list` };
}

/**
 * Loads a dump into a database by pg_restore or psql, every stored object's digest checked on the way; the first error
 * ends it. Fails with PROGRAM_FAILED, DIGEST_MISMATCH, OBJECT_MISSING, SPACE_MISSING, DATA_FOLDER_UNUSABLE, as
 * filterScript does, or as the storage does.
 */
export async function loadDump(dump: DumpToLoad): Promise<Loaded> {
  if (dump.source.format === "plain") return await loadScript(dump);
  await loadArchive(dump);
  return { warnings: [], scriptRows: undefined };
}

async function loadArchive(dump: DumpToLoad): Promise<void> {
  const { source, access, useList: list, isOneTransaction, workFolder } = dump;
  const files = workFiles(workFolder, dump.stagedDatabase);
  const isScript = dump.lacksToolSettings;
  const args = ["--exit-on-error", ...dump.options];
  if (isOneTransaction && !isScript) args.push("--single-transaction");
  const own = async (file: string) => {
    if (access.user) await chown(file, access.user.uid, access.user.gid);
  };
  try {
    if (list !== undefined) {
      await writeFile(files.useList, list, { mode: 0o600, flag: "wx" });
      await own(files.useList);
      args.push(`--use-list=${files.useList}`);
    }
    if (isScript) {
      await loadAsScript(dump, args);
      return;
    }
    const jobs = isOneTransaction || source.format === "tar" ? 1 : dump.jobs;
    if (source.folder !== undefined) await loadFromPlace(dump, [...args, ...jobsOption(jobs)], source.folder);
    else if (jobs > 1) {
      await writePlainArchive(dump, files.archive);
      await own(files.archive);
      await loadFromPlace(dump, [...args, ...jobsOption(jobs)], files.archive);
    } else await loadFromStream(dump, args);
  } catch (error) {
    throw fileFailure(error, workFolder);
  } finally {
    await rm(files.archive, { force: true });
    await rm(files.useList, { force: true });
  }
}

function jobsOption(jobs: number): string[] {
  return jobs > 1 ? [`--jobs=${jobs}`] : [];
}

/** The code of an error of a file, also of one that a program has written. */
function fileErrorCode(error: unknown): string | undefined {
  if (isFailure(error, "PROGRAM_FAILED")) {
    if (error.message.includes("No space left on device")) return "ENOSPC";
    return error.message.includes("Disk quota exceeded") ? "EDQUOT" : undefined;
  }
  if (isFailure(error) || !(error instanceof Error) || !("syscall" in error)) return undefined;
  return "code" in error ? String(error.code) : "unknown";
}

/** What an error of the work folder amounts to. */
function fileFailure(error: unknown, workFolder: string): unknown {
  const code = fileErrorCode(error);
  if (code === undefined) return error;
  try {
    if (code === "ENOSPC" || code === "EDQUOT")
      fail("SPACE_MISSING", `the folder ${workFolder} has no room for the plain archive`, {
        hint: "make room there, or restore with one job",
        cause: error,
      });
    return fail("DATA_FOLDER_UNUSABLE", `the folder ${workFolder} cannot be used: ${code}`, { cause: error });
  } catch (failure) {
    return failure;
  }
}

async function loadFromStream(dump: DumpToLoad, args: string[]) {
  const { source, access, database, session, signal, onBytes, log } = dump;
  const { input, programs } = openSource(source, { signal, onBytes });
  // Without it a selection would end the reading where its last rows are.
  const restore = { ...access.connecting("pg_restore", database, args, session), readsOn: true };
  await using chain = await openChain([...programs, restore], {
    signal,
    input,
    ownsChunks: true,
    onStderr: sayTo(log),
  });
  chain.output.resume();
  await chain.done;
}

async function loadFromPlace({ access, database, session, signal, log }: DumpToLoad, args: string[], place: string) {
  const restore = access.connecting("pg_restore", database, [...args, place], session);
  await using chain = await openChain([restore], { signal, onStderr: sayTo(log) });
  chain.output.resume();
  await chain.done;
}

/** What programs say on stderr goes into the log as they say it, each line under its program's name. */
const sayTo = (log: DumpToLoad["log"]) => (program: string, line: string) =>
  log(`${program}: ${line.replace(`${program}: `, "")}`);

async function writePlainArchive({ source, signal, onBytes }: DumpToLoad, file: string): Promise<void> {
  await using plain = await open(file, "wx", 0o600);
  const { input, programs } = openSource(source, { signal, onBytes });
  if (programs.length === 0) {
    await pipeline(input, plain.createWriteStream({ autoClose: false, highWaterMark: 1 << 20 }), { signal });
    return;
  }
  // It is the largest of all streams, so it goes past this process.
  await using chain = await openChain(programs, { signal, input, ownsChunks: true, outputFile: plain.fd });
  chain.output.resume();
  await chain.done;
}

/** Lines of psql that say what went wrong; all others may quote the script. */
const psqlSays = /^psql(?::<stdin>:\d+)?: (?:ERROR|FATAL|error|fatal|WARNING|warning)/;

async function loadScript(dump: DumpToLoad): Promise<Loaded> {
  const { source, signal, onBytes } = dump;
  await using decoded = await openDecoded(openSource(source, { signal, onBytes }), signal);
  const seen = await runScript(dump, decoded.output);
  const left = [...seen.leftOut].join(", ");
  const warnings = left === "" ? [] : [`statements about roles, tablespaces and databases were left out: ${left}`];
  return { warnings, scriptRows: seen.rows };
}

/** An archive as the script that pg_restore makes of it, without a file between them. */
async function loadAsScript(dump: DumpToLoad, args: string[]): Promise<void> {
  const { source, access, signal, onBytes, log } = dump;
  const { folder } = source;
  const { input, programs } = folder === undefined ? openSource(source, { signal, onBytes }) : { programs: [] };
  const script = [...args, "--file=-", ...(folder === undefined ? [] : [folder])];
  const restore = { ...access.offline("pg_restore", script), readsOn: true };
  await using chain = await openChain([...programs, restore], {
    signal,
    ...(input ? { input, ownsChunks: true } : {}),
    onStderr: sayTo(log),
  });
  await runScript(dump, chain.output);
  await chain.done;
}

async function runScript(dump: DumpToLoad, chunks: AsyncIterable<Uint8Array>): Promise<ScriptSeen> {
  const { source, access, database, signal, log, isOneTransaction, lacksToolSettings } = dump;
  const seen: ScriptSeen = { rows: 0n, leftOut: new Set() };
  const { isCluster } = source;
  const section = source.format === "plain" ? dump.section : "";
  const key = randomBytes(24).toString("hex");
  const script = { isCluster, database: section, isOneTransaction, lacksToolSettings, key };
  // -X: no psqlrc. Its restricted mode keeps commands of the script off this host.
  const args = ["-X", "-q", "--set=ON_ERROR_STOP=1", ...(isOneTransaction ? ["--single-transaction"] : []), "--file=-"];
  const psql = {
    ...access.connecting("psql", database, args, dump.session),
    hidesLine: (line: string) => !psqlSays.test(line),
  };
  const input = Readable.from(filterScript(chunks, script, seen), { objectMode: false });
  await using chain = await openChain([psql], { signal, input, onStderr: sayTo(log) });
  chain.output.resume();
  await chain.done;
  return seen;
}

/** Fails with TOOLS_TOO_OLD when this psql does not know the restricted mode (CVE-2025-8714). */
export async function requireRestrictedMode(access: ToolAccess, signal: AbortSignal): Promise<void> {
  const { stdout } = await runProgram(access.offline("psql", ["--help=commands"]), { signal });
  if (stdout.includes("\\restrict")) return;
  fail("TOOLS_TOO_OLD", `psql ${access.tools.version} does not know the restricted mode that SQL scripts are run in`, {
    hint: `install the current minor version of PostgreSQL ${access.tools.major}'s client programs on that host`,
  });
}
