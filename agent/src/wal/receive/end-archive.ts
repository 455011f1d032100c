import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { WalEnd } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { toFailure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import { openArchiveIndex } from "../store/archive-index.ts";
import type { RunningArchive } from "./archive.ts";
import { openLedger } from "./ledger.ts";

/** What the end of an archive is told with. */
export interface EndOptions {
  readonly end: WalEnd;
  /** Folder that the archive had. */
  readonly folder: string;
  readonly log: Logger;
}

/**
 * Tells that nothing is written of a cluster's WAL any more, and how far it is stored by the agent's own index, until it
 * is acknowledged. It is begun when what archived before has come to its end; no repository is opened.
 */
export function endArchive({ end, folder, log }: EndOptions): RunningArchive {
  const { clusterId, repositoryId, systemIdentifier, number } = end;
  const ledger = openLedger({ clusterId, repositoryId, systemIdentifier });
  let isReady = false;
  async function readIndex(): Promise<void> {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await using index = await openArchiveIndex(join(folder, "index"));
      for (const extent of index.extents) ledger.addRun(extent);
      const last = index.extents.at(-1);
      if (last) ledger.stand({ timeline: last.timeline, receivedLsn: last.endLsn, storedLsn: last.endLsn });
    } catch (error) {
      // That it has ended is true without it, and the repository tells the rest.
      const { reason, message } = toFailure(error);
      log.warn({ cluster: end.clusterName, reason }, `how far WAL is stored is not known here: ${message}`);
    }
    isReady = true;
    log.info({ cluster: end.clusterName }, "WAL is archived by another agent from now on");
  }
  return {
    report() {
      const report = isReady ? ledger.report() : undefined;
      if (report) report.endedGrant = number;
      return report;
    },
    acknowledge: (acknowledged) => ledger.acknowledge(acknowledged),
    repeat: () => ledger.repeat(),
    ended: readIndex(),
  };
}
