import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { formatSize } from "@coppice/proto/kit/size";
import { confirm } from "../../input/confirm.ts";
import { conclude, type OperationOptions, seeThrough } from "../../operation/conclude.ts";
import { followOperation } from "../../operation/follow.ts";
import { windowsLeft } from "../../operation/wal/still-reachable.ts";
import { formatCleanedWal, sumOfCleaned } from "../../operation/wal/cleaned-wal.ts";
import { printable } from "../../output/printable.ts";
import type { Session } from "../../session.ts";

/** Flags of `coppice wal cleanup`. */
export interface CleanupOptions extends OperationOptions {
  readonly in?: string;
  readonly system?: string;
  readonly host?: string;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

/** Shows what nothing needs of a cluster's WAL, has it confirmed, deletes exactly that, and gives the exit code. */
export async function cleanUpWal(session: Session, options: CleanupOptions, cluster: string): Promise<number> {
  const { dryRun = false, yes, host = "" } = options;
  const api = await session.api();
  const request = { cluster, repository: options.in ?? "", systemIdentifier: options.system ?? "", host };
  const look = () => api.clusters.cleanWal({ ...request, dryRun: true, requestId: session.newRequestId() });
  if (dryRun) return await seeThrough(session, api, await look(), options);
  let etag = "";
  if (!yes) {
    const seen = await followOperation(session, api, (await look()).id);
    const { result, spec, state } = seen;
    if (state !== OperationState.SUCCEEDED || result.case !== "cleanedWal" || spec.case !== "cleanWal")
      return await conclude(session, api, seen);
    const { objects, bytes } = sumOfCleaned(result.value);
    if (objects === 0) return await conclude(session, api, seen);
    const { terminal } = session;
    terminal.err(formatCleanedWal(result.value, seen, { paint: terminal.paintErr, tookMs: 0, isAsked: true }));
    for (const line of await windowsLeft(api, spec.value.cluster)) terminal.err(`  stays: ${printable(line)}\n`);
    const { clusterName: name, repositoryName } = spec.value;
    const what = `${objects} objects of WAL of ${name}, ${formatSize(bytes)}, are deleted in ${repositoryName} for good`;
    await confirm(session, { yes, what, name });
    ({ etag } = spec.value);
  }
  const operation = await api.clusters.cleanWal({ ...request, etag, requestId: session.newRequestId() });
  return await seeThrough(session, api, operation, options);
}
