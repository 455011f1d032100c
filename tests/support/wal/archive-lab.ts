import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type WalArchive, WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openFilesystem } from "../../../agent/src/storage/filesystem.ts";
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

/** Makes one for a server; nothing runs yet. */
export async function openArchiveLab(
  server: PostgresServer,
  over: { readonly maxAgeSeconds?: number; readonly recipients?: string[] } = {},
): Promise<ArchiveLab> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-wal-"));
  const repository = join(folder, "repository");
  await mkdir(repository);
  const storage = await openFilesystem(repository, "op_test");
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
      location: { kind: { case: "filesystem", value: { path: repository } } },
      recipients: over.recipients ?? [],
    },
    settings: { slot: "archive", maxAge: { seconds: BigInt(over.maxAgeSeconds ?? 60) }, compressionLevel: 1 },
    systemIdentifier,
  });
  return {
    folder,
    storage,
    archive,
    secret: (id) => (id === "" ? undefined : server.password),
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
