import { stat } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import {
  type RestoreGlobalsCommand,
  type RestoreGlobalsResult,
  RestoreGlobalsResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { decodePrograms } from "../../pipeline/stages.ts";
import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import { type ClientFiles, formatAddress, resolveEndpoint } from "../../postgres/endpoint.ts";
import { readFacts } from "../../postgres/facts.ts";
import { requireSupported } from "../../postgres/majors.ts";
import { openStoredStream, readManifest } from "../../repository/get.ts";
import { backupPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { quoteNames } from "../look/item.ts";
import { openDecoded } from "../source/source.ts";
import { listDifferences, type PresentGlobals, readPresent } from "./differences.ts";
import { type GlobalStatement, parseGlobals } from "./statements.ts";

/** What globals are restored with. */
export interface GlobalsRequest {
  readonly command: RestoreGlobalsCommand;
  readonly password: string | undefined;
  readonly identities: string | undefined;
  readonly files: ClientFiles;
  readonly storage: Storage;
  readonly signal: AbortSignal;
}

interface Chosen {
  readonly statements: readonly GlobalStatement[];
  readonly skipped: string[];
}

const duplicateObject = "42710";

async function readGlobals({ command, storage, identities, signal }: GlobalsRequest): Promise<GlobalStatement[]> {
  const address = command.backup ?? fail("INVALID_FIELD", "the command names no backup");
  const { manifest } = await readManifest(storage, address, signal);
  const stream = manifest.content.case === "dump" ? manifest.content.value.globals : undefined;
  if (!stream) fail("GLOBALS_UNREADABLE", `the backup ${address.backupId} holds no globals`);
  const matched = matchIdentities(stream.encrypted ? manifest.recipients : [], identities);
  const input = openStoredStream(storage, { prefix: backupPrefix(address), stream, signal });
  await using decoded = await openDecoded({ input, programs: decodePrograms(stream, matched) }, signal);
  return await parseGlobals(decoded.output);
}

/** What was asked for. Fails with SELECTION_REFUSED naming roles that the backup does not hold. */
function choose(statements: readonly GlobalStatement[], { roles, noTablespaces }: RestoreGlobalsCommand): Chosen {
  const known = new Set(statements.flatMap((each) => (each.kind === "create-role" ? [each.role] : [])));
  const unknown = roles.filter((role) => !known.has(role));
  if (unknown.length > 0) fail("SELECTION_REFUSED", `the backup holds no role ${quoteNames(unknown)}`);
  const isChosen = (...names: string[]) => roles.length === 0 || names.every((name) => roles.includes(name));
  const skipped: string[] = [];
  const chosen = statements.filter((statement) => {
    switch (statement.kind) {
      case "create-role":
      case "alter-role":
        return isChosen(statement.role);
      case "membership":
        if (isChosen(statement.role, statement.member)) return true;
        if (isChosen(statement.member))
          skipped.push(
            `the membership of ${JSON.stringify(statement.member)} in ${JSON.stringify(statement.role)}: that role was not chosen`,
          );
        return false;
      case "parameter":
        return isChosen(statement.grantee);
      case "create-tablespace":
        if (noTablespaces) skipped.push(`the tablespace ${JSON.stringify(statement.tablespace)}: none was wanted`);
        return !noTablespaces && roles.length === 0;
      case "alter-tablespace":
        return !noTablespaces && roles.length === 0;
    }
  });
  return { statements: chosen, skipped };
}

/** What is not in the cluster yet, and so may be made and changed without touching what is there. */
function newOnes(statements: readonly GlobalStatement[], present: PresentGlobals): GlobalStatement[] {
  return statements.filter((statement) => {
    switch (statement.kind) {
      case "create-role":
      case "alter-role":
        return !present.roles.has(statement.role);
      case "membership":
        return !present.roles.has(statement.member);
      case "parameter":
        return statement.grantee !== "public" && !present.roles.has(statement.grantee);
      case "create-tablespace":
      case "alter-tablespace":
        return !present.tablespaces.has(statement.tablespace);
    }
  });
}

/** Fails with TABLESPACE_FOLDER_MISSING naming every folder that is not there, where the server's host is this one. */
async function requireFolders(statements: readonly GlobalStatement[]): Promise<void> {
  const missing: string[] = [];
  for (const statement of statements) {
    if (statement.kind !== "create-tablespace") continue;
    const info = await stat(statement.location).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    });
    if (!info?.isDirectory()) missing.push(statement.location);
  }
  if (missing.length > 0)
    fail("TABLESPACE_FOLDER_MISSING", `the tablespaces need folders that do not exist: ${quoteNames(missing)}`);
}

function nameOf(statement: GlobalStatement): string {
  if ("tablespace" in statement) return `the tablespace ${JSON.stringify(statement.tablespace)}`;
  if (statement.kind === "parameter") return `the privileges of ${JSON.stringify(statement.grantee)} on a setting`;
  if (statement.kind === "membership")
    return `the membership of ${JSON.stringify(statement.member)} in ${JSON.stringify(statement.role)}`;
  return `the role ${JSON.stringify(statement.role)}`;
}

/** Names what could not be made; the message of the server stays, the statement's text is nowhere. */
function named(error: unknown, statement: GlobalStatement): unknown {
  if (!isFailure(error)) return error;
  const { reason, message, hint, metadata } = error;
  return new Failure(reason, `${nameOf(statement)} could not be made: ${message}`, { hint, metadata, cause: error });
}

/** Runs one statement so that its failure does not end the transaction; the failure, or undefined. */
async function attempt(connection: PostgresConnection, text: string): Promise<Failure | undefined> {
  await connection.query("SAVEPOINT one");
  try {
    await connection.query(text);
    await connection.query("RELEASE one");
    return undefined;
  } catch (error) {
    if (!isFailure(error) || error.metadata.sqlstate === undefined) throw error;
    await connection.query("ROLLBACK TO one");
    return error;
  }
}

/** Roles and all of theirs, in one transaction. Gives the roles that were created and the number of statements. */
async function applyRoles(connection: PostgresConnection, statements: readonly GlobalStatement[], skipped: string[]) {
  const created: string[] = [];
  const taken = new Set<string>();
  let count = 0;
  await connection.query("BEGIN");
  try {
    for (const statement of statements) {
      if ("tablespace" in statement) continue;
      if (statement.kind === "alter-role" && taken.has(statement.role)) continue;
      let failure = await attempt(connection, statement.text);
      if (statement.kind === "create-role" && failure?.metadata.sqlstate === duplicateObject) {
        // Made by somebody since it was looked for: it is theirs.
        taken.add(statement.role);
        skipped.push(`${nameOf(statement)}: it was created by somebody else meanwhile`);
        continue;
      }
      if (failure && statement.kind === "membership" && statement.grantor !== undefined) {
        failure = await attempt(connection, statement.plainText);
        if (!failure)
          skipped.push(
            `the grantor of ${nameOf(statement)}: ${JSON.stringify(statement.grantor)} may not grant it here`,
          );
      }
      if (failure) throw named(failure, statement);
      count++;
      if (statement.kind === "create-role") created.push(statement.role);
    }
    await connection.query("COMMIT");
    return { created, count };
  } catch (error) {
    await connection.query("ROLLBACK").catch(() => {});
    throw error;
  }
}

/** Tablespaces, each by itself: PostgreSQL makes them in no transaction. */
async function applyTablespaces(
  connection: PostgresConnection,
  statements: readonly GlobalStatement[],
  skipped: string[],
) {
  const created: string[] = [];
  const taken = new Set<string>();
  let count = 0;
  for (const statement of statements) {
    if (!("tablespace" in statement) || taken.has(statement.tablespace)) continue;
    try {
      await connection.query(statement.text);
    } catch (error) {
      if (statement.kind === "create-tablespace" && isFailure(error) && error.metadata.sqlstate === duplicateObject) {
        taken.add(statement.tablespace);
        skipped.push(`${nameOf(statement)}: it was created by somebody else meanwhile`);
        continue;
      }
      throw named(error, statement);
    }
    count++;
    if (statement.kind === "create-tablespace") created.push(statement.tablespace);
  }
  return { created, count };
}

/**
 * Applies the roles and tablespaces of a dump to a cluster, statement by statement; what is there already is never
 * changed, and what differs is told. Roles are made in one transaction, tablespaces after it, so a repetition goes on
 * where a failure left off. Fails with SELECTION_REFUSED, GLOBALS_UNREADABLE, TABLESPACE_FOLDER_MISSING,
 * CLUSTER_READ_ONLY, or as matchIdentities, the storage and connections do.
 */
export async function restoreGlobals(request: GlobalsRequest): Promise<RestoreGlobalsResult> {
  const { command, signal } = request;
  const { statements, skipped } = choose(await readGlobals(request), command);
  const endpoint = await resolveEndpoint(command.connection?.endpoint, request.password, request.files);
  await using connection = await openConnection(endpoint, { signal });
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  if (facts.inRecovery) fail("CLUSTER_READ_ONLY", `the server at ${formatAddress(endpoint)} is a standby`);
  const present = await readPresent(connection);
  const differences = listDifferences(statements, present);
  const wanted = newOnes(statements, present);
  if (facts.isLocal) await requireFolders(wanted);
  if (command.dryRun)
    return create(RestoreGlobalsResultSchema, {
      createdRoles: wanted.flatMap((each) => (each.kind === "create-role" ? [each.role] : [])),
      createdTablespaces: wanted.flatMap((each) => (each.kind === "create-tablespace" ? [each.tablespace] : [])),
      differences,
      statements: wanted.length,
      skipped,
    });
  // Password hashes do not belong into the server's log; only a superuser may keep them out.
  if (facts.superuser)
    await connection.query(
      "set log_statement = none; set log_min_duration_statement = -1; set log_min_error_statement = panic",
    );
  const roles = await applyRoles(connection, wanted, skipped);
  const tablespaces = await applyTablespaces(connection, wanted, skipped);
  return create(RestoreGlobalsResultSchema, {
    createdRoles: roles.created,
    createdTablespaces: tablespaces.created,
    differences,
    statements: roles.count + tablespaces.count,
    skipped,
  });
}
