import { CreateMultipartUploadCommand, ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import { expect, test } from "vitest";
import { cleanRepository } from "../../agent/src/repository/survey/clean.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket, ownerClient } from "../support/ceph/s3-place.ts";

const unavailable = whyNoCephLab();

test.skipIf(unavailable !== undefined)(
  "cleaning a bucket ends uploads of Coppice, and neither those of others nor those of a repository within it",
  async () => {
    const signal = AbortSignal.timeout(50_000);
    const lab = await openCephLab();
    const location = await newBucket(lab, { prefix: "prod" });
    const credentials = { write: credentialOf(lab.owner) };
    await using storage = await openS3(location, { operationId: "op_clean", credentials, signal });
    const client = ownerClient(lab);
    const folder = "backups/20261121T010000Z_dump_bkp_o/db/1.dump.zst.0000";
    const [own, probe] = [`prod/cls_a/${folder}`, "prod/probe/op_x"];
    const others = ["prod/a film.mov", `prod/eu/cls_b/${folder}`, "prod/cls_a/notes.txt"];
    for (const Key of [own, probe, ...others])
      await client.send(new CreateMultipartUploadCommand({ Bucket: location.bucket, Key }));
    const before = new Date(Date.now() + 60_000);
    const { leavings, removed } = await cleanRepository(storage, { before, keptFolders: [], isDryRun: false, signal });
    expect(leavings).toHaveLength(2);
    expect(removed).toBe(2n);
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: location.bucket }));
    expect(new Set(Uploads.map(({ Key }) => Key))).toEqual(new Set(others));
    client.destroy();
  },
);
