import { Failure } from "@coppice/proto/kit/failure";

/** What an error of writing in the folder means: a disk that takes no more is said to be full. */
export function toSpoolFailure(error: unknown, folder: string): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new Failure("SPACE_MISSING", `there is no room for received WAL in ${folder}`, {
    hint: "make room there: until then the server keeps its WAL",
    cause: error,
  });
}
