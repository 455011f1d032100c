import { join } from "node:path";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { expect, test } from "vitest";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";
import { openFaultProxy } from "../support/faults/fault-proxy.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveOf, openCopy } from "../support/wal/copied-server.ts";
import { archiveBy, patient, whenStored, writeSegments } from "../support/wal/push-lab.ts";
import { receives } from "../support/wal/running-archive.ts";

const size = 16n << 20n;

test("while a slow store is asked what a copy's first segment follows, nothing behind that is stored", async () => {
  const ceph = await openCephLab();
  const bucket = await newBucket(ceph);
  await using proxy = await openFaultProxy(ceph.endpoint);
  bucket.endpoint = proxy.endpoint;
  const place = { location: { case: "s3" as const, value: bucket }, credential: credentialOf(ceph.owner) };
  const settings = { autovacuum: "off", wal_keep_size: "0" };
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server, { place });
  const archive = async () => {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    await receives(server);
    const end = await writeSegments(server, 1);
    await whenStored(archiving, end);
    return end;
  };
  await archive();
  await server.stop("immediate");
  await using copy = await openCopy(server, settings);
  await copy.sql("postgres", "insert into load values (-1, 'of the copy')");
  await copy.stop("immediate");
  await server.start();
  const endLsn = await archive();
  await server.stop("immediate");
  await copy.start();
  // What could be compared is gone from it, and more waits behind the archive's end.
  await copy.sql("postgres", "select pg_drop_replication_slot('archive')");
  await writeSegments(copy, 1);
  for (const _ of [1, 2]) await copy.sql("postgres", "insert into load values (0, ''); checkpoint");
  const copyEnd = await writeSegments(copy, 4);
  proxy.rule = ({ method, url }) =>
    method === "GET" && /\/wal\/.*\/[0-9A-F]{24}/.test(url) ? { is: "delay", ms: 500 } : undefined;
  {
    await using archiving = await archiveBy(archiveOf(lab, copy, "archive"), WalMode.STREAM, join(lab.folder, "other"));
    await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
    await writeSegments(copy, 1);
  }
  proxy.rule = () => undefined;
  for (let at = endLsn + size; at <= copyEnd; at += size) expect(await isArchived(lab, at)).toBe(false);
  await copy.stop("immediate");
  await server.start();
  await archive();
});

async function isArchived(lab: ArchiveLab, endLsn: bigint): Promise<boolean> {
  const key = walKey(lab.archive, segmentName(1, endLsn - size, size));
  return (await lab.storage.stat(key, AbortSignal.timeout(30_000))) !== undefined;
}
