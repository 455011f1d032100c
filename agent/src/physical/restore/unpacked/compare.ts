import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../../host/os-user.ts";
import { runProgram } from "../../../host/run.ts";
import { type ServerPrograms, serverProgram } from "../server-programs.ts";

/** Compares every file of a data directory with PostgreSQL's own manifest of it. Fails with CONTENT_UNREADABLE. */
export async function compareWithManifest(
  data: string,
  {
    what,
    programs,
    user,
    signal,
  }: {
    readonly what: string;
    readonly programs: ServerPrograms;
    readonly user: OsUser;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const args = ["--no-parse-wal", "--exit-on-error", "--quiet", "--ignore=tablespace_map", data];
  try {
    await runProgram({ file: serverProgram(programs, "pg_verifybackup"), args, user }, { signal });
  } catch (error) {
    if (!isFailure(error, "PROGRAM_FAILED") || error.metadata["exitCode"] === undefined) throw error;
    throw new Failure("CONTENT_UNREADABLE", `${what} is not what its manifest says: ${error.message}`, {
      cause: error,
    });
  }
}
