import { existsSync } from "node:fs";
import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Lab, subject } from "../lab.ts";
import type { BenchBucket } from "../s3-place.ts";

/** The peer of physical backups, set up for the lab's server with a repository of its own. */
export interface PgBackRest {
  /** How a script calls it, up to the name of a command; it runs as the server's user. */
  readonly command: string;
  /** Removes the repository and makes an empty one; nothing of it is timed. */
  clear(): Promise<void>;
  /** Has the server archive with it from now on, or throw its WAL away. */
  archive(isOn: boolean): Promise<void>;
  /** What has the server archive with it. */
  readonly archiveCommand: string;
}

const program = "/opt/coppice-tests/pgbackrest/usr/bin/pgbackrest";

/** Settings that a lab's server needs at its start for the peer. */
export const archiveSettings = { archive_mode: "on", archive_command: "true" };

function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Sets the server's archive_command; returns once connections are told of it. */
export async function setArchiveCommand({ server }: Lab, command: string): Promise<void> {
  await server.sql("postgres", `alter system set archive_command = ${quote(command)};\nselect pg_reload_conf();`);
  while ((await server.sql("postgres", "show archive_command")) !== command) await delay(20);
}

/** Removes what lies below the address $1, if anything does. */
export const removeFromBucket = 'aws --endpoint-url "$ENDPOINT" s3 rm --recursive --only-show-errors "$1"';

function bucketLines({ name, endpoint, region, caFile, accessKeyId, secretAccessKey }: BenchBucket): string[] {
  const { hostname, port } = new URL(endpoint);
  return [
    "repo1-type=s3",
    `repo1-s3-bucket=${name}`,
    `repo1-s3-endpoint=${hostname}`,
    `repo1-s3-region=${region}`,
    "repo1-s3-uri-style=path",
    `repo1-s3-key=${accessKeyId}`,
    `repo1-s3-key-secret=${secretAccessKey}`,
    `repo1-storage-port=${port}`,
    `repo1-storage-ca-file=${caFile}`,
  ];
}

/**
 * Opens it as its manual advises for speed on two cores: zstd 3, two processes, bundles and block incrementals, archiving
 * and fetching of WAL ahead by processes of their own where that is asked for. Fails where it is not installed.
 */
export async function openPgBackRest(lab: Lab, { isAsync }: { readonly isAsync: boolean }): Promise<PgBackRest> {
  if (!existsSync(program)) throw new Error(`not installed: ${program}; next: sh deploy/setup benches`);
  const { server, cop, bucket } = lab;
  const folder = join(cop.folder, "pgbackrest");
  const [repository, config] = [bucket ? "/pgbackrest" : join(folder, "repository"), join(folder, "pgbackrest.conf")];
  await mkdir(folder);
  const lines = [
    "[global]",
    `repo1-path=${repository}`,
    ...(bucket ? bucketLines(bucket) : []),
    "repo1-bundle=y",
    "repo1-block=y",
    "compress-type=zst",
    "compress-level=3",
    "process-max=2",
    "start-fast=y",
    `archive-async=${isAsync ? "y" : "n"}`,
    ...["lock", "log", "spool"].map((name) => `${name}-path=${join(folder, name)}`),
    "log-level-console=warn",
    "log-level-file=off",
    "",
    `[${subject}]`,
    `pg1-path=${server.dataDir}`,
    `pg1-port=${server.port}`,
    `pg1-socket-path=${server.socketDir}`,
    `pg1-user=${server.superuser}`,
  ];
  await writeFile(config, lines.map((line) => `${line}\n`).join(""));
  if (process.getuid?.() === 0) await chown(folder, server.owner.uid, server.owner.gid);
  const ours = `${program} --config=${config} --stanza=${subject}`;
  const command = `$AS_OWNER ${ours}`;
  const archiveCommand = `${ours} archive-push %p`;
  return {
    command,
    async clear() {
      const remove = bucket ? removeFromBucket : 'rm -rf "$1"';
      await lab.timeScript(`${remove}; ${command} stanza-create`, bucket ? bucket.url("pgbackrest/") : repository);
    },
    archive: (isOn) => setArchiveCommand(lab, isOn ? archiveCommand : "true"),
    archiveCommand,
  };
}
