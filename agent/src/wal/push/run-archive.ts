import { join } from "node:path";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { type ArchiveOptions, runArchive, type RunningArchive } from "../receive/archive.ts";
import { openConnection } from "../../postgres/connect.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import { slotOf } from "../receive/slot-name.ts";
import { readArchiverState } from "./archiver-state.ts";
import { runPush } from "./archive.ts";
import { dropIdleSlot } from "./hand-over.ts";
import { releaseAfterStream } from "./release.ts";

const withdrawMs = 30_000;

/** Archives a cluster's WAL in the mode of its settings; see runArchive and runPush. `dataDirectory` is the agent's. */
export function runWalArchive(options: ArchiveOptions, dataDirectory: string): RunningArchive {
  const { archive, log } = options;
  const socketFolder = join(dataDirectory, "push", archive.clusterId);
  if (archive.settings?.mode === WalMode.PUSH) return runPush({ ...options, socketFolder });
  const running = runArchive(options);
  const releasing = releaseAfterStream(options, {
    socketFolder,
    heldFrom: () => running.heldFrom?.(),
    log,
  });
  return {
    ...running,
    ended: Promise.all([running.ended, releasing]).then(() => undefined),
    async withdraw(slot) {
      if (slot === "kept") return;
      const password = options.secret(archive.connection?.passwordSecret ?? "");
      const endpoint = await resolveEndpoint(archive.connection?.endpoint, password, options.clientFiles);
      await using connection = await openConnection(endpoint, { signal: AbortSignal.timeout(withdrawMs) });
      // Of a server that is another one by now the slot is not ours.
      const { systemIdentifier } = await readArchiverState(connection);
      if (systemIdentifier === archive.systemIdentifier) await dropIdleSlot(connection, slotOf(archive));
    },
  };
}
