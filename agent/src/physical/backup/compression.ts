import type { ServerCompression } from "../../postgres/replication/base-backup-statement.ts";
import type { ResolvedBackupOptions } from "./options.ts";

/** More is of no use: the one process that reads the files has no more to give them. */
const mostThreads = 4;
/** With a single thread a backup was seen to cost a quarter more of the server's CPU time, with two not. */
const leastThreads = 2;

/**
 * How many threads compress on the server where nobody says it. Where this host's cores are the server's, half of them,
 * for whoever uses the server wants some; nobody can ask a server elsewhere for its cores.
 */
function usualThreads({ isLocal, cores }: { readonly isLocal: boolean; readonly cores: number }): number {
  return isLocal ? Math.min(Math.max(cores >> 1, leastThreads), mostThreads) : leastThreads;
}

/**
 * What a server is asked for in turn until it agrees; undefined is to compress on this host. What it sends is the same
 * format in every way, so a server whose library has no threads is asked without them; only those that somebody asked for
 * are not given up.
 */
export function compressionsToTry(
  { codec, level, workers }: Pick<ResolvedBackupOptions, "codec" | "level" | "workers">,
  host: { readonly isLocal: boolean; readonly cores: number },
): readonly (ServerCompression | undefined)[] {
  if (codec === "none") return [undefined];
  if (codec === "gzip") return [{ codec, ...(level === 0 ? {} : { level }) }, undefined];
  if (workers !== undefined) return [{ codec, level, workers }];
  return [{ codec, level, workers: usualThreads(host) }, { codec, level }, undefined];
}
