import type { DumpedDatabase, MissingDatabase } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { admissionStatement, propertyStatements } from "./database-statements.ts";
import { quoteIdentifier } from "../postgres/quote.ts";

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
  readonly globals: StoredStream;
  readonly hasRolePasswords: boolean;
  readonly databases: readonly DumpedDatabase[];
  readonly missing: readonly Pick<MissingDatabase, "name" | "message">[];
}

/** Databases that every new cluster has; they are filled, not created. */
const builtInDatabases = new Set(["postgres", "template1"]);

function quoteShell(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** For a comment: one line, whatever the name holds. */
function show(text: string): string {
  return JSON.stringify(text);
}

/** A here-document's end that the text does not hold as a line. */
function delimiter(text: string): string {
  let word = "END";
  while (text.split("\n").includes(word)) word += "_";
  return word;
}

function hereDocument(command: string, text: string): string {
  const word = delimiter(text);
  return `${command} <<'${word}'\n${text}\n${word}`;
}

function concatenate(stream: StoredStream): string {
  const files = stream.objects.map(({ key }) => quoteShell(key)).join(" ");
  return stream.codec === "zstd" ? `cat ${files} | zstd -dcq` : `cat ${files}`;
}

function digestLines(objects: readonly StoredObject[]): string {
  return objects.map(({ key, sha256 }) => `${sha256}  ${key}`).join("\n");
}

function propertyScript({ name, properties }: DumpedDatabase): string {
  if (!properties) return "";
  const statements = propertyStatements(name, properties).map(({ text, asRole }) =>
    asRole === undefined ? `${text};` : `SET ROLE ${quoteIdentifier(asRole)};\n${text};\nRESET ROLE;`,
  );
  const owner = `ALTER DATABASE ${quoteIdentifier(name)} OWNER TO ${quoteIdentifier(properties.owner)};`;
  return [owner, ...statements, `${admissionStatement(name, properties)};`].join("\n");
}

/** libpq reads a name with = in it as a connection string; this one names the database and nothing else. */
function conninfo(name: string): string {
  return quoteShell(`dbname='${name.replaceAll("\\", "\\\\").replaceAll("'", String.raw`\'`)}'`);
}

function databaseSteps(database: DumpedDatabase): string {
  const { name, stream } = database;
  if (!stream) return "";
  const title = `# database ${show(name)}, oid ${database.oid}`;
  const restore = `${concatenate(stream)} | pg_restore --exit-on-error --no-password`;
  if (!builtInDatabases.has(name)) return `${title}\n${restore} --create --dbname=postgres`;
  return [
    `${title}: every new cluster has it; it is filled, and given its properties`,
    `${restore} --dbname=${conninfo(name)}`,
    hereDocument("psql -X -q -v ON_ERROR_STOP=1 -d template1 -f -", propertyScript(database)),
  ].join("\n");
}

function preamble(facts: RecipeFacts): string {
  const newest = Math.max(facts.serverMajor, facts.toolMajor);
  return `#!/bin/bash
# How to restore this backup without Coppice. It is also a script: run "bash RECOVER.txt" in this folder.
#
# Backup ${facts.backupId} of the cluster ${show(facts.clusterName)}, begun ${facts.startTime.toISOString()},
# PostgreSQL ${facts.serverMajor}, dumped with the tools of ${facts.toolMajor}.
#
# You need: an empty cluster of PostgreSQL ${newest} or newer with a superuser, psql and pg_restore of the same major
# version as that cluster (a current minor version), bash, zstd, sha256sum. Say where it is as libpq wants it:
#   export PGHOST=/var/run/postgresql PGPORT=5432 PGUSER=postgres
# To restore one database only, do the digests, then the roles it needs, then its own line.`;
}

function globalsSteps(facts: RecipeFacts): string {
  const create = quoteShell(`CREATE ROLE ${formatRole(facts.bootstrapRole)};`);
  const lines = [
    "# 2. Roles and tablespaces. The first role is in every cluster already, so its CREATE ROLE is left out.",
    facts.hasRolePasswords
      ? "#    Passwords are in it: if you log in by password, from here on it is the one of the backup's role."
      : "#    Passwords are NOT in it: the backup's role could not read them. Set them afterwards.",
  ];
  for (const { name, location } of facts.tablespaces)
    lines.push(
      `#    The tablespace ${show(name)} needs this folder, empty and owned by the server's user:`,
      `mkdir -p ${quoteShell(location)}`,
    );
  lines.push(
    `${concatenate(facts.globals)} | { grep -vxF ${create} || true; } | psql -X -q -v ON_ERROR_STOP=1 -d postgres -f -`,
  );
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
  const streams = [facts.globals, ...facts.databases.flatMap(({ stream }) => (stream ? [stream] : []))];
  const objects = streams.flatMap((stream) => stream.objects);
  const missing = facts.missing.map(
    ({ name, message }) => `# NOT in this backup: database ${show(name)}: ${show(message)}`,
  );
  return `${[
    preamble(facts),
    "set -euo pipefail",
    [
      "# 1. The bytes are the ones that were stored.",
      hereDocument("sha256sum --check --quiet -", digestLines(objects)),
    ].join("\n"),
    globalsSteps(facts),
    ["# 3. The databases, each under its old name with owner, privileges, settings and locale.", ...missing].join("\n"),
    ...facts.databases.map(databaseSteps),
    'echo "restored; now run: vacuumdb --all --analyze-in-stages"',
  ].join("\n\n")}\n`;
}
