import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toJsonString } from "@bufbuild/protobuf";
import { type WalArchive, WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import {
  FilesystemLocationSchema,
  type RepositoryLocation,
  RepositoryLocationSchema,
} from "@coppice/proto/gen/coppice/common/v1/location";
import {
  type StorageCredential,
  StorageCredentialSchema,
} from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import { openStorage } from "../../../agent/src/storage/open.ts";
import type { Storage } from "../../../agent/src/storage/storage.ts";
import { fetchWal } from "../../../agent/src/wal/fetch/fetch-wal.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** A repository in a folder, what archives a server's WAL there, and how it is looked at. */
export interface ArchiveLab extends AsyncDisposable {
  readonly folder: string;
  readonly storage: Storage;
  readonly archive: WalArchive;
  readonly secret: (id: string) => string | undefined;
  /** A file of the archive as it was before it was stored; undefined when it is not there. */
  fetch(name: string): Promise<Buffer | undefined>;
}

/** What is other than a folder of the lab's own, and the usual. */
export interface ArchiveLabOptions {
  readonly maxAgeSeconds?: number;
  readonly recipients?: string[];
  /** A repository elsewhere, with what opens it. */
  readonly place?: { readonly location: RepositoryLocation["kind"]; readonly credential?: StorageCredential };
}

/** Makes one for a server; nothing runs yet. */
export async function openArchiveLab(server: PostgresServer, over: ArchiveLabOptions = {}): Promise<ArchiveLab> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-wal-"));
  const repository = join(folder, "repository");
  await mkdir(repository);
  const location = create(RepositoryLocationSchema, {
    kind: over.place?.location ?? { case: "filesystem", value: create(FilesystemLocationSchema, { path: repository }) },
  });
  const credential = over.place?.credential;
  const signal = AbortSignal.timeout(300_000);
  const credentials = credential ? { write: credential } : {};
  const storage = await openStorage(location, { operationId: "op_test", signal, credentials });
  const systemIdentifier = await server.sql("postgres", "select system_identifier from pg_control_system()");
  const archive = create(WalArchiveSchema, {
    clusterId: "cls_00000000000000000000000001",
    clusterName: "shop",
    connection: {
      endpoint: {
        address: { case: "host", value: "127.0.0.1" },
        port: server.port,
        user: server.superuser,
        sslmode: "disable",
      },
      passwordSecret: "sec_password",
    },
    repository: {
      repositoryId: "rep_1",
      location,
      ...(credential ? { secrets: { write: "sec_store" } } : {}),
      recipients: over.recipients ?? [],
    },
    settings: { slot: "archive", maxAge: { seconds: BigInt(over.maxAgeSeconds ?? 60) }, compressionLevel: 1 },
    systemIdentifier,
  });
  return {
    folder,
    storage,
    archive,
    secret(id) {
      if (id === "sec_store" && credential) return toJsonString(StorageCredentialSchema, credential);
      return id === "" ? undefined : server.password;
    },
    async fetch(name) {
      const path = join(folder, name);
      const wal = { place: archive, name, signal: AbortSignal.timeout(30_000) };
      if (!(await fetchWal(storage, wal, path))) return undefined;
      const bytes = await readFile(path);
      await rm(path);
      return bytes;
    },
    async [Symbol.asyncDispose]() {
      await storage[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
