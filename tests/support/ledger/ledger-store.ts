import { mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { ListObjectsV2Command } from "@aws-sdk/client-s3";
import { openFilesystem } from "../../../agent/src/storage/filesystem.ts";
import { openS3 } from "../../../agent/src/storage/s3/s3.ts";
import type { Storage } from "../../../agent/src/storage/storage.ts";
import { openCephLab } from "../ceph/lab.ts";
import { credentialOf, newBucket, ownerClient } from "../ceph/s3-place.ts";
import { type Fault, openFaultProxy } from "../faults/fault-proxy.ts";
import { listFiles } from "../scenarios/files.ts";

/** Where a ledger's WAL is archived, how it is looked at past the agent, and what can go wrong with it. */
export interface LedgerStore extends AsyncDisposable {
  readonly kind: "folder" | "s3";
  /** Folder of a repository in one. */
  readonly folder: string;
  /** What `coppice repository add main` takes, and its standard input. */
  readonly add: { readonly args: readonly string[]; readonly input?: string };
  open(signal: AbortSignal): Promise<Storage>;
  /** All that is stored, each with what tells it from another object of the key. */
  portray(): Promise<ReadonlyMap<string, string>>;
  /** Nothing of it is there as long as the work takes. */
  whileAway(work: () => Promise<void>): Promise<void>;
  /** Two of three requests go wrong as long as the work takes; a folder knows no requests. */
  whileTroubled(fault: Fault, work: () => Promise<void>): Promise<void>;
}

/** A repository in a folder of db7. */
export async function openFolderStore(under: string): Promise<LedgerStore> {
  const folder = join(under, "backups");
  await mkdir(folder);
  return {
    kind: "folder",
    folder,
    add: { args: [`db7:${folder}`] },
    open: () => openFilesystem(folder, "op_test"),
    async portray() {
      const portrait = new Map<string, string>();
      for (const file of await listFiles(folder)) {
        const found = await stat(join(folder, file)).catch(() => undefined);
        if (found) portrait.set(file, `${found.ino} ${found.size} ${found.mtimeMs}`);
      }
      return portrait;
    },
    async whileAway(work) {
      await rename(folder, `${folder}-away`);
      try {
        await work();
      } finally {
        await rename(`${folder}-away`, folder);
      }
    },
    whileTroubled: (_, work) => work(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** A repository in a bucket of its own, behind a proxy that can do wrong. */
export async function openS3Store(): Promise<LedgerStore> {
  const ceph = await openCephLab();
  const proxy = await openFaultProxy(ceph.endpoint);
  const bucket = await newBucket(ceph);
  const { accessKeyId, secretAccessKey } = ceph.owner;
  const client = ownerClient(ceph);
  async function during(rule: typeof proxy.rule, work: () => Promise<void>): Promise<void> {
    proxy.rule = rule;
    try {
      await work();
    } finally {
      proxy.rule = () => undefined;
    }
  }
  return {
    kind: "s3",
    folder: "",
    add: {
      args: [`s3://${bucket.bucket}`, "--endpoint", proxy.endpoint, "--region", ceph.region, "--credentials", "-"],
      input: `write: {access_key_id: ${accessKeyId}, secret_access_key: ${secretAccessKey}}\n`,
    },
    open: (signal) =>
      openS3(bucket, { operationId: "op_test", credentials: { write: credentialOf(ceph.owner) }, signal }),
    async portray() {
      const portrait = new Map<string, string>();
      for (let token: string | undefined, more = true; more; more = token !== undefined) {
        const found = await client.send(
          new ListObjectsV2Command({ Bucket: bucket.bucket, ...(token ? { ContinuationToken: token } : {}) }),
        );
        for (const { Key = "", Size, ETag, LastModified } of found.Contents ?? [])
          portrait.set(Key, `${Size} ${ETag} ${LastModified?.getTime()}`);
        token = found.NextContinuationToken;
      }
      return portrait;
    },
    whileAway: (work) => during(() => ({ is: "drop" }), work),
    whileTroubled(fault, work) {
      let met = 0;
      return during(() => (met++ % 3 === 2 ? undefined : fault), work);
    },
    async [Symbol.asyncDispose]() {
      client.destroy();
      await proxy[Symbol.asyncDispose]();
    },
  };
}
