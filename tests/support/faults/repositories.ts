import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { S3LocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { openFilesystem } from "../../../agent/src/storage/filesystem.ts";
import { openS3 } from "../../../agent/src/storage/s3/s3.ts";
import { openSsh } from "../../../agent/src/storage/ssh/open-ssh.ts";
import { openCephLab } from "../ceph/lab.ts";
import { credentialOf, littlePatience, newBucket } from "../ceph/s3-place.ts";
import { startSshd } from "../sshd/sshd.ts";
import type { SweptPlace } from "./fault-sweep.ts";

// Many runs, each of which makes sure of its bytes, are no test of a disk.
const scratch = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

/** Makes empty repositories, one for each run of a sweep. */
export interface Repositories extends AsyncDisposable {
  /** A new one, gone when it is disposed of. */
  openEmpty(operationId: string): Promise<SweptPlace>;
}

/** The kinds of repository that there are. */
export const repositoryKinds = {
  filesystem: openFolders,
  s3: openBucket,
  ssh: openServedFolders,
} as const;

async function openFolders(): Promise<Repositories> {
  return {
    async openEmpty(operationId) {
      const folder = await mkdtemp(join(scratch, "coppice-swept-"));
      const storage = await openFilesystem(folder, operationId);
      return { storage, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
    },
    async [Symbol.asyncDispose]() {},
  };
}

/** One bucket, a prefix for each; it ends with the lab. */
async function openBucket(): Promise<Repositories> {
  const lab = await openCephLab();
  const location = await newBucket(lab);
  const { signal } = new AbortController();
  let count = 0;
  return {
    async openEmpty(operationId) {
      count++;
      const place = create(S3LocationSchema, { ...location, prefix: `run-${count}` });
      const credentials = { write: credentialOf(lab.owner) };
      const storage = await openS3(place, { operationId, credentials, conditionalPut: true, signal }, littlePatience);
      return { storage, [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose]() };
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function openServedFolders(): Promise<Repositories> {
  const server = await startSshd();
  const { signal } = new AbortController();
  return {
    async openEmpty(operationId) {
      const folder = await mkdtemp(join(scratch, "coppice-swept-"));
      const storage = await openSsh(server.location(folder), { operationId, credentials: {}, signal });
      return {
        storage,
        async [Symbol.asyncDispose]() {
          await storage[Symbol.asyncDispose]();
          await rm(folder, { recursive: true, force: true });
        },
      };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
