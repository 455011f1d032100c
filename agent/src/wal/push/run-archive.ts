import { join } from "node:path";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { type ArchiveOptions, runArchive, type RunningArchive } from "../receive/archive.ts";
import { openAskedSegments } from "../receive/end-asked-segment.ts";
import { runPush } from "./archive.ts";
import { releaseAfterStream } from "./release.ts";

/** Archives a cluster's WAL in the mode of its settings; see runArchive and runPush. `dataDirectory` is the agent's. */
export function runWalArchive(options: ArchiveOptions, dataDirectory: string): RunningArchive {
  const asked = openAskedSegments(options);
  const running = runInMode(options, dataDirectory);
  const rest = async () => {
    await running.ended;
    await asked.rest();
  };
  return { ...running, endSegment: (segment) => asked.end(segment), ended: rest() };
}

function runInMode(options: ArchiveOptions, dataDirectory: string): RunningArchive {
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
  };
}
