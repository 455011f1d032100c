import { create } from "@bufbuild/protobuf";
import {
  type ScannedBackup,
  type ScannedServer,
  ScannedServerSchema,
} from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { parseManifest } from "../repository/manifest-text.ts";
import { scanRepository } from "../repository/survey/scan.ts";
import { scanWal } from "../wal/scan/scan-wal.ts";
import type { Handler } from "./handler.ts";
import { withStorage } from "./with-storage.ts";

/** Reads what a repository says of itself, and of the WAL in it. */
export const scanRepositoryCommand: Handler<"scanRepository"> = async (command, context) => {
  const { repository, knownFolders, activeFolders, knownServers } = command;
  return await withStorage(repository, context, async (storage) => {
    const { signal } = context;
    const known = { knownFolders, activeFolders };
    const result = await scanRepository(storage, { ...known, signal, onProgress: context.progress });
    const { wal, problems, leftOut, undecrypted } = await scanWal(storage, {
      servers: [...knownServers, ...result.backups.flatMap(serverOf)],
      identities: context.secret(repository?.identitySecret ?? ""),
      signal,
    });
    result.wal.push(...wal);
    result.unreadable.push(...problems);
    result.leftOut.push(...leftOut);
    result.undecrypted = undecrypted;
    return { result };
  });
};

function serverOf({ manifest, folder }: ScannedBackup): ScannedServer[] {
  const { clusterId, systemIdentifier, content } = parseManifest(manifest, folder);
  if (content.case !== "physical") return [];
  return [create(ScannedServerSchema, { clusterId, systemIdentifier, segmentBytes: content.value.walSegmentBytes })];
}
