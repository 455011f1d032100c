import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import { type Codec, decodePrograms, parseCodec } from "../pipeline/stages.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import { openStoredStream } from "../repository/get.ts";
import type { Storage } from "../storage/storage.ts";

/** The table of contents of an archive of pg_dump. */
export interface ArchiveToc {
  /** Major version of the pg_dump that made it. */
  readonly toolMajor: number;
  /** Each object as type, schema, name and owner; data left out. Two objects may read the same. */
  readonly objects: readonly string[];
}

/** Entries that hold data, not objects, or stand for large objects, which a dump of the schema alone does not list. */
const dataEntry =
  /^(TABLE DATA|SEQUENCE SET|BLOBS?|BLOB METADATA|MATERIALIZED VIEW DATA|STATISTICS DATA|(ACL|COMMENT|SECURITY LABEL) - LARGE OBJECTS?) /;

/** What `pg_restore --list` prints. Fails with PROGRAM_FAILED when it is no table of contents. */
export function parseToc(text: string): ArchiveToc {
  const tool = /^; +Dumped by pg_dump version: (\d+)/m.exec(text)?.[1];
  if (tool === undefined) fail("PROGRAM_FAILED", "pg_restore --list printed no table of contents");
  const objects: string[] = [];
  for (const line of text.split("\n")) {
    const entry = /^\d+; \d+ \d+ (.*)$/.exec(line)?.[1];
    if (entry !== undefined && !dataEntry.test(entry)) objects.push(entry);
  }
  return { toolMajor: Number(tool), objects };
}

/** The entries of `wanted` that `found` lacks, each as often as it lacks them. */
export function missingEntries(wanted: readonly string[], found: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const entry of found) left.set(entry, (left.get(entry) ?? 0) + 1);
  return wanted.filter((entry) => {
    const count = left.get(entry) ?? 0;
    left.set(entry, count - 1);
    return count <= 0;
  });
}

async function readText(output: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of output) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** The codec of a stored stream. Fails with FEATURE_UNKNOWN. */
export function streamCodec(stream: StoredStream): Codec {
  return parseCodec(stream.codec) ?? fail("FEATURE_UNKNOWN", `the codec ${JSON.stringify(stream.codec)} is unknown`);
}

/** The table of contents of a stored archive; only its beginning is read, so its digest is not checked. */
export async function readStoredToc(
  storage: Storage,
  { prefix, stream, access, signal }: { prefix: string; stream: StoredStream; access: ToolAccess; signal: AbortSignal },
): Promise<ArchiveToc> {
  const programs = [...decodePrograms(streamCodec(stream)), access.offline("pg_restore", ["--list"])];
  const input = openStoredStream(storage, { prefix, stream, signal });
  await using chain = await openChain(programs, { signal, input, mayStopEarly: true });
  const text = await readText(chain.output);
  await chain.done;
  return parseToc(text);
}

/** The table of contents that a dump of a database would have now. */
export async function readDatabaseToc(access: ToolAccess, database: string, signal: AbortSignal): Promise<ArchiveToc> {
  const dump = access.connecting("pg_dump", database, ["--format=custom", "--compress=0", "--schema-only"]);
  await using chain = await openChain([dump, access.offline("pg_restore", ["--list"])], { signal, mayStopEarly: true });
  const text = await readText(chain.output);
  await chain.done;
  return parseToc(text);
}
