import { argv, pid } from "node:process";
import { openFilesystem } from "../../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../../agent/src/storage/storage.ts";
import { deleteUnneeded } from "../../../agent/src/wal/cleanup/delete-unneeded.ts";
import { findUnneeded } from "../../../agent/src/wal/cleanup/find-unneeded.ts";

// A program: deletes WAL of timeline 1 before a position, and kills itself, as kill -9 does, when so many objects are gone.
// Arguments: repository, cluster, system identifier, position, objects.
const [, , repository = "", clusterId = "", systemIdentifier = "", endLsn = "", objects = ""] = argv;
const signal = AbortSignal.timeout(60_000);
await using storage = await openFilesystem(repository, "op_killed");
let left = Number(objects);
const dying: Storage = {
  ...storage,
  async deleteMany(keys, given) {
    for (const key of keys) {
      if (left-- === 0) process.kill(pid, "SIGKILL");
      await storage.deleteMany([key], given);
    }
    return keys.length;
  },
};
const wal = {
  place: { clusterId, systemIdentifier },
  segmentBytes: 16n << 20n,
  runs: [{ timeline: 1, startLsn: 0n, endLsn: BigInt(endLsn) }],
  keptNames: new Set<string>(),
};
const found = await findUnneeded(dying, wal, signal);
await deleteUnneeded(dying, wal, found, { signal, onDeleted: () => {} });
