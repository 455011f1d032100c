import type { Readable } from "node:stream";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import type { Program } from "../host/program.ts";
import { matchIdentities } from "../pipeline/age-identity.ts";
import { decodePrograms } from "../pipeline/stages.ts";
import { quotesStatement } from "../postgres/tool-access.ts";
import { findTools, toolPath } from "../postgres/tools.ts";
import type { CheckContent } from "../repository/verify.ts";

/**
 * What pg_dump and pg_dumpall write at the end of a script; current minors then lift the restriction of psql. Nothing may
 * follow: in a script of a cluster each database's part ends with pg_dump's own line.
 */
const trailer = /(?:^|\n)-- PostgreSQL database (cluster )?dump complete\n--\n\s*(?:\\unrestrict \w+\n\s*)?$/;
const tailBytes = 4096;

/** Whether that is the end of a whole script: of pg_dumpall where it is of the cluster or its globals, else of pg_dump. */
export function isScriptEnd(end: string, isOfCluster: boolean): boolean {
  const found = end.endsWith("\n") ? trailer.exec(end) : null;
  return found !== null && (found[1] !== undefined) === isOfCluster;
}

function databaseOf({ content }: BackupManifest, stream: StoredStream) {
  return content.case === "dump" ? content.value.databases.find((database) => database.stream === stream) : undefined;
}

/** Major version of the pg_dump that made it. */
function toolMajor({ tools, serverVersionNum }: BackupManifest): number {
  const version = tools.find(({ name }) => name === "pg_dump")?.version;
  return Number(/^\d+/.exec(version ?? "")?.[0] ?? Math.floor(serverVersionNum / 10_000));
}

/** A program that somebody killed, or that could not be started, says nothing of what it was to read. */
function asContentFailure(error: unknown): unknown {
  if (!isFailure(error, "PROGRAM_FAILED") || error.metadata["exitCode"] === undefined) return error;
  return new Failure("CONTENT_UNREADABLE", error.message, { cause: error });
}

async function run(programs: readonly Program[], input: Readable, signal: AbortSignal): Promise<string> {
  await using chain = await openChain(programs, { signal, input });
  let text = "";
  try {
    for await (const chunk of chain.output as AsyncIterable<Buffer>)
      text = (text + chunk.toString("latin1")).slice(-tailBytes);
    await chain.done;
  } catch (error) {
    throw asContentFailure(error);
  }
  return text;
}

/**
 * What verifyBackup needs to look into each stream: decrypts, decompresses and parses it, an archive to the last byte
 * of its data, a script to the line that its tool ends it with. `identities` is an identity file where the backup is
 * encrypted. Fails before any stream is fetched with IDENTITY_MISSING, IDENTITY_WRONG, TOOLS_MISSING or TOOLS_TOO_OLD;
 * the check itself fails with CONTENT_UNREADABLE, with PROGRAM_FAILED when a program was killed, or as its input does.
 */
export async function openContentCheck(
  manifest: BackupManifest,
  { identities, signal }: { identities: string | undefined; signal: AbortSignal },
): Promise<CheckContent> {
  const fitting = matchIdentities(manifest.recipients, identities);
  const tools = await findTools(toolMajor(manifest), { signal });
  const readArchive: Program = {
    file: toolPath(tools, "pg_restore"),
    // As a script to nowhere: it reads the table of contents and then all the data, without a server.
    args: ["--file=/dev/null"],
    hidesLine: quotesStatement,
  };
  const readTail: Program = { file: "tail", args: ["-c", String(tailBytes)] };
  return async (stream, input) => {
    const decode = decodePrograms(stream, fitting);
    const database = databaseOf(manifest, stream);
    if (database?.format === "custom") {
      await run([...decode, readArchive], input, signal);
      return;
    }
    const end = await run([...decode, readTail], input, signal);
    if (!isScriptEnd(end, database === undefined))
      fail("CONTENT_UNREADABLE", "the script does not end as pg_dump ends it: it was cut off");
  };
}
