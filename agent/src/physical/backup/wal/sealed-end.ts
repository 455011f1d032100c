import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { walPrefix } from "../../../repository/layout.ts";
import { keptDigest } from "../../../repository/wal/kept-digest.ts";
import { listedRun } from "../../../repository/wal/listed-run.ts";
import type { PreparedBackup } from "../prepare-backup.ts";
import { awaitFile, type NeededWal } from "./archived-wal.ts";
import { foreignStandby, untoldArchive } from "./foreign-standby.ts";
import { standbyDigest } from "./served-digest.ts";

/**
 * Compares the last archived file of a stretch, which is encrypted, with what the standby has of it, by the digest that is
 * kept beside the file: that is of all of it, so the standby is waited for, too. Fails with WAL_FOREIGN, with
 * IDENTITY_MISSING where no digest is kept, and as standbyDigest and the storage do.
 */
export async function requireSealedEnd(prepared: PreparedBackup, wal: NeededWal, last: StoredStream): Promise<void> {
  const { place, segmentBytes, clusterName, signal } = wal;
  const key = walPrefix(place) + (last.objects[0]?.key ?? "");
  const { timeline, endLsn } = listedRun(key, segmentBytes) ?? fail("INTERNAL", `${key} is no segment`);
  const name = key.slice(key.lastIndexOf("/") + 1);
  const { sha256 } = await awaitFile(wal, name, async () => ({
    sha256: await keptDigest(prepared.request.storage, { place, name, signal }),
  }));
  if (sha256 === undefined) throw untoldArchive(name);
  prepared.request.log(`the archive's ${name} is compared with what the standby has received`);
  if ((await standbyDigest(prepared, { timeline, endLsn })) !== sha256)
    throw foreignStandby({ timeline, endLsn, clusterName });
}
