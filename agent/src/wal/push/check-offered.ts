import { realpath, stat } from "node:fs/promises";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { parseWalFile, type WalFile } from "@coppice/proto/kit/wal/segment";
import { quoteIdentifier } from "../../postgres/quote.ts";
import { checkSegmentHeader } from "../store/segment-header.ts";
import type { ArchiverState } from "./archiver-state.ts";
import type { OfferedFile } from "./offered-file.ts";

/** The server that may offer files. */
export interface ExpectedServer {
  readonly systemIdentifier: string;
  readonly segmentBytes: bigint;
}

/**
 * Checks that a file is what its name says, of that server: a segment, whole or `.partial`, by its size and the header of
 * its first page, a timeline's history and a backup's by what is written in them. Fails with WAL_FOREIGN,
 * TIMELINE_HISTORY_INVALID.
 */
export function checkOffered(
  name: string,
  file: Pick<OfferedFile, "sizeBytes" | "header" | "text">,
  { systemIdentifier, segmentBytes }: ExpectedServer,
): WalFile {
  const parsed = parseWalFile(name, segmentBytes);
  if (parsed === undefined) return fail("WAL_FOREIGN", `${JSON.stringify(name)} is no file that this server archives`);
  switch (parsed.kind) {
    case "segment":
    case "partial":
      if (BigInt(file.sizeBytes) !== segmentBytes)
        fail("WAL_FOREIGN", `${name} has ${file.sizeBytes} bytes, and segments of this server ${segmentBytes}`);
      checkSegmentHeader(file.header, { ...parsed, systemIdentifier, segmentBytes });
      break;
    case "history":
      if (parseTimelineHistory(parsed.timeline, file.text).ancestors.length === 0)
        fail("TIMELINE_HISTORY_INVALID", `${name} says nothing of where timeline ${parsed.timeline} comes from`);
      break;
    case "backup":
      if (!file.text.startsWith("START WAL LOCATION: ")) fail("WAL_FOREIGN", `${name} is no history of a backup`);
      break;
  }
  return parsed;
}

/** The server, once it was seen. */
export interface SeenServer {
  readonly state: ArchiverState;
  /** Names of its data directory, links resolved and not. */
  readonly directories: readonly string[];
  readonly owner: { readonly uid: number; readonly gid: number };
}

/**
 * A server by what it says of itself to a role, its data directory by each of its names, and whose that is. Fails with
 * PRIVILEGE_MISSING, WAL_FILE_UNREADABLE.
 */
export async function seeServer(state: ArchiverState, user: string): Promise<SeenServer> {
  const { dataDirectory } = state;
  if (dataDirectory === "")
    fail(
      "PRIVILEGE_MISSING",
      `${quoteIdentifier(user)} may not see where the server's data directory is, which tells it from a clone`,
      { hint: `as a superuser: GRANT pg_read_all_settings TO ${quoteIdentifier(user)};` },
    );
  try {
    const { uid, gid } = await stat(dataDirectory);
    return { state, directories: [dataDirectory, await realpath(dataDirectory)], owner: { uid, gid } };
  } catch (cause) {
    throw new Failure("WAL_FILE_UNREADABLE", `the agent does not see ${dataDirectory} on its host`, {
      hint: "archive_command hands WAL to an agent on the server's own host: run it there, or archive with `--mode stream`",
      cause,
    });
  }
}
