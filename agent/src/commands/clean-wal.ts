import { create } from "@bufbuild/protobuf";
import { CleanWalResultSchema } from "@coppice/proto/gen/coppice/agent/v1/clean_wal";
import { Failure, toFailure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { deleteUnneeded, requireKnownBackups } from "../wal/cleanup/delete-unneeded.ts";
import { findUnneeded } from "../wal/cleanup/find-unneeded.ts";
import type { Handler } from "./handler.ts";
import { withStorage } from "./with-storage.ts";

/**
 * Deletes archived WAL that nothing needs. Once begun it is not given up half-way; where it breaks off, how far it came is
 * not known, and it is repeated.
 */
export const cleanWalCommand: Handler<"cleanWal"> = async (command, context) => {
  const { clusterId, systemIdentifier, segmentBytes, keptNames, knownFolders, dryRun } = command;
  const { signal, progress } = context;
  const wal = {
    place: { clusterId, systemIdentifier },
    segmentBytes,
    runs: command.runs.map(({ timeline, startLsn, endLsn }) => ({
      timeline,
      startLsn: parseLsn(startLsn),
      endLsn: parseLsn(endLsn),
    })),
    keptNames: new Set(keptNames),
  };
  return await withStorage(command.repository, context, async (storage) => {
    const found = await findUnneeded(storage, wal, signal);
    const result = create(CleanWalResultSchema, {
      runs: command.runs.map((run, index) => {
        const { keys = [], bytes = 0n } = found.runs[index] ?? {};
        return { run, objects: keys.length, bytes };
      }),
      parts: found.parts.keys.length,
      partsBytes: found.parts.bytes,
      anchors: found.anchors.length,
      claims: found.claims.length,
    });
    try {
      await requireKnownBackups(storage, { clusterId, knownFolders }, signal);
    } catch (error) {
      signal.throwIfAborted();
      const left = found.held.map(({ timeline, startLsn, endLsn }) => ({
        timeline,
        startLsn: formatLsn(startLsn),
        endLsn: formatLsn(endLsn),
      }));
      return { result: create(CleanWalResultSchema, { left }), failure: toFailure(error) };
    }
    if (dryRun) return { result };
    signal.throwIfAborted();
    const totalItems = result.runs.reduce(
      (sum, { objects }) => sum + objects,
      result.parts + result.anchors + result.claims,
    );
    const onDeleted = (doneItems: number) => progress({ phase: "deleting WAL", doneItems, totalItems });
    try {
      await deleteUnneeded(storage, wal, found, { signal: new AbortController().signal, onDeleted });
    } catch (error) {
      const message = `the deletion of WAL broke off in the middle: ${toFailure(error).message}`;
      throw new Failure("OUTCOME_UNKNOWN", message, { cause: error });
    }
    result.stays = (await storage.whatStays?.(signal)) ?? "";
    return { result };
  });
};
