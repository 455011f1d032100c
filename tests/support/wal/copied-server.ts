import { cp } from "node:fs/promises";
import { clone } from "@bufbuild/protobuf";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openPostgresServer, type PostgresServer } from "../postgres-servers.ts";
import { runProgram } from "../run-program.ts";
import type { ArchiveLab } from "./archive-lab.ts";

/** The same archive, of another server: as an agent elsewhere has it, or this one when the cluster was told to be there. */
export function archiveOf(lab: ArchiveLab, server: PostgresServer, slot: string): ArchiveLab {
  const archive = clone(WalArchiveSchema, lab.archive);
  if (archive.connection?.endpoint) archive.connection.endpoint.port = server.port;
  if (archive.settings) archive.settings.slot = slot;
  return { ...lab, archive };
}

/** Starts a copy of a server that is stopped, with all that lies in its data directory. */
export function openCopy(
  { major, password, dataDir: source, owner }: PostgresServer,
  settings: Readonly<Record<string, string>>,
): Promise<PostgresServer> {
  return openPostgresServer({
    major,
    settings,
    copy: {
      password,
      async fill(dataDir) {
        await cp(source, dataDir, { recursive: true });
        await runProgram("chown", ["-R", `${owner.uid}:${owner.gid}`, dataDir], { env: { PATH: "/usr/bin:/bin" } });
      },
    },
  });
}
