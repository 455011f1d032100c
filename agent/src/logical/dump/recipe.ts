import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { DumpedDatabase, MissingDatabase } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { builtInDatabases, createDatabaseStatement, presentStatements } from "../database-statements.ts";
import { quoteIdentifier } from "../../postgres/quote.ts";
import {
  askForIdentity,
  digestLines,
  hereDocument,
  quoteShell,
  readStream,
  showName,
} from "../../repository/recipe-text.ts";

/** What RECOVER.txt is written from. */
export interface RecipeFacts {
  readonly clusterName: string;
  readonly backupId: string;
  readonly startTime: Date;
  readonly serverMajor: number;
  readonly toolMajor: number;
  /** The role with oid 10, which every server has under some name. */
  readonly bootstrapRole: string;
  /** Tablespaces of the cluster with their folders, the built-in ones left out. */
  readonly tablespaces: readonly { readonly name: string; readonly location: string }[];
  /** age recipients of every stream; empty means not encrypted. */
  readonly recipients: readonly string[];
  readonly contents: DumpContents;
  /** Whether only some tables or schemas of each database are in it. */
  readonly isSelection: boolean;
  readonly globals: StoredStream;
  readonly hasRolePasswords: boolean;
  readonly databases: readonly DumpedDatabase[];
  /** One SQL script of the whole cluster, where it was asked for. */
  readonly clusterDump: StoredStream | undefined;
  readonly missing: readonly Pick<MissingDatabase, "name" | "message">[];
}

function propertyScript({ name, properties }: DumpedDatabase): string {
  if (!properties) return "";
  const statements = presentStatements(name, properties).map(({ text, asRole }) =>
    asRole === undefined ? `${text};` : `SET ROLE ${quoteIdentifier(asRole)};\n${text};\nRESET ROLE;`,
  );
  return statements.join("\n");
}

function creationScript({ name, properties }: DumpedDatabase): string {
  if (!properties) return `CREATE DATABASE ${quoteIdentifier(name)} WITH TEMPLATE template0;`;
  const tablespace = properties.tablespace === "pg_default" ? undefined : properties.tablespace;
  return `${createDatabaseStatement({ name, tablespace }, properties)};`;
}

/** libpq reads a name with = in it as a connection string; this one names the database and nothing else. */
function conninfo(name: string): string {
  return quoteShell(`dbname='${name.replaceAll("\\", "\\\\").replaceAll("'", String.raw`\'`)}'`);
}

const psql = "psql -X -q -v ON_ERROR_STOP=1";
const dataOnlyRestore = "pg_restore --exit-on-error --no-password --data-only --disable-triggers";

function databaseSteps(database: DumpedDatabase, { contents, isSelection }: RecipeFacts): string {
  const { name, stream, format } = database;
  if (!stream) return "";
  const lines = [`# database ${showName(name)}, oid ${database.oid}`];
  const isCustom = format === "custom";
  const fill = (restore: string) =>
    `${readStream(stream)} | ${isCustom ? restore : `${psql} -f -`} --dbname=${conninfo(name)}`;
  if (contents === DumpContents.DATA_ONLY)
    return [
      ...lines,
      "# rows only: the database and its tables have to be there, and empty",
      fill(dataOnlyRestore),
    ].join("\n");
  if (isSelection) lines.push("# a selection: schemas, types and extensions that it needs may have to be made first");
  const restore = "pg_restore --exit-on-error --no-password";
  const properties = hereDocument(`${psql} -d template1 -f -`, propertyScript(database));
  if (builtInDatabases.has(name))
    lines.push("# every new cluster has it; it is filled, and given its properties", fill(restore), properties);
  else if (isCustom && !isSelection) lines.push(`${readStream(stream)} | ${restore} --create --dbname=postgres`);
  else lines.push(hereDocument(`${psql} -d template1 -f -`, creationScript(database)), fill(restore), properties);
  return lines.join("\n");
}

/** The script of pg_dumpall creates the first role too, before it goes into any database. */
function clusterSteps({ clusterDump, bootstrapRole }: RecipeFacts): string[] {
  if (!clusterDump) return [];
  const pattern = `CREATE ROLE ${formatRole(bootstrapRole)};`.replaceAll(/[\\/.*^$[\]]/g, String.raw`\$&`);
  const filter = quoteShell(`1,/^\\\\connect /{/^${pattern}$/d}`);
  return [
    `# The whole cluster is in one script too. "bash RECOVER.txt cluster" takes that instead of all that follows.
if [ "\${1:-}" = cluster ]; then
  ${readStream(clusterDump)} | LC_ALL=C sed ${filter} | ${psql} -d postgres -f -
  exit
fi`,
  ];
}

function preamble(facts: RecipeFacts): string {
  const newest = Math.max(facts.serverMajor, facts.toolMajor);
  const encryption = askForIdentity(facts.recipients);
  const names = new Set([facts.globals.codec, ...facts.databases.flatMap(({ stream }) => stream?.codec ?? [])]);
  const programs = ["bash", "sha256sum", ...["zstd", "gzip"].filter((name) => names.has(name))];
  if (facts.recipients.length > 0) programs.push("age");
  return `#!/bin/bash
# How to restore this backup without Coppice. It is also a script: run "bash RECOVER.txt" in this folder.
#
# Backup ${facts.backupId} of the cluster ${showName(facts.clusterName)}, begun ${facts.startTime.toISOString()},
# PostgreSQL ${facts.serverMajor}, dumped with the tools of ${facts.toolMajor}.
#
# You need: an empty cluster of PostgreSQL ${newest} or newer with a superuser, psql and pg_restore of the same major
# version as that cluster (a current minor version: older ones know no \\restrict), ${programs.join(", ")}.
# Say where it is as libpq wants it:
#   export PGHOST=/var/run/postgresql PGPORT=5432 PGUSER=postgres${encryption}
# To restore one database only, do the digests, then the roles it needs, then its own line.`;
}

function globalsSteps(facts: RecipeFacts): string {
  const create = quoteShell(`CREATE ROLE ${formatRole(facts.bootstrapRole)};`);
  const lines = [
    "# 2. Roles and tablespaces. The first role is in every cluster already, so its CREATE ROLE is left out.",
    facts.hasRolePasswords
      ? "#    Passwords are in it: if you log in by password, from here on it is the one of the backup's role."
      : "#    Passwords are NOT in it. Set them afterwards.",
  ];
  for (const { name, location } of facts.tablespaces)
    lines.push(
      `#    The tablespace ${showName(name)} needs this folder, empty and owned by the server's user:`,
      `mkdir -p ${quoteShell(location)}`,
    );
  lines.push(`${readStream(facts.globals)} | { grep -vxF ${create} || true; } | ${psql} -d postgres -f -`);
  return lines.join("\n");
}

/** As pg_dumpall writes it: quoted only where it has to be. */
function formatRole(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : quoteIdentifier(name);
}

/**
 * The text of RECOVER.txt: comments for people and, between them, the exact commands with standard tools, which restore
 * globals and every database into an empty cluster under their old names.
 */
export function formatRecipe(facts: RecipeFacts): string {
  const streams = [
    facts.globals,
    ...facts.databases.flatMap(({ stream }) => (stream ? [stream] : [])),
    ...(facts.clusterDump ? [facts.clusterDump] : []),
  ];
  const objects = streams.flatMap((stream) => stream.objects);
  const missing = facts.missing.map(
    ({ name, message }) => `# NOT in this backup: database ${showName(name)}: ${showName(message)}`,
  );
  return `${[
    preamble(facts),
    "set -euo pipefail",
    ...(facts.recipients.length > 0 ? [': "${IDENTITY:?set it to the path of an age identity file}"'] : []),
    [
      "# 1. The bytes are the ones that were stored.",
      hereDocument("sha256sum --check --quiet -", digestLines(objects)),
    ].join("\n"),
    ...clusterSteps(facts),
    globalsSteps(facts),
    ["# 3. The databases, each under its old name with owner, privileges, settings and locale.", ...missing].join("\n"),
    ...facts.databases.map((database) => databaseSteps(database, facts)),
    'echo "restored; now run: vacuumdb --all --analyze-in-stages"',
  ].join("\n\n")}\n`;
}
