import { stat } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import {
  type RestoreGlobalsCommand,
  type RestoreGlobalsResult,
  RestoreGlobalsResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { fail } from "@coppice/proto/kit/failure";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { decodePrograms } from "../../pipeline/stages.ts";
import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import { type ClientFiles, formatAddress, resolveEndpoint } from "../../postgres/endpoint.ts";
import { readFacts } from "../../postgres/facts.ts";
import { majorOf, requireSupported } from "../../postgres/majors.ts";
import { openStoredStream, readManifest } from "../../repository/get.ts";
import { backupPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { type Item, look, quoteNames } from "../../host/look.ts";
import { openDecoded } from "../source/source.ts";
import { applyRoles, applyTablespaces } from "./apply.ts";
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

/** What the restore of the globals found out before it changes anything. */
interface GlobalsPlan {
  readonly items: readonly Item[];
  /** Statements about what is not there yet. */
  readonly wanted: readonly GlobalStatement[];
  /** Whether what the login role has no right to is left out. */
  readonly mayLack: boolean;
  readonly seen: Pick<RestoreGlobalsResult, "differences" | "presentRoles" | "presentTablespaces">;
  readonly skipped: string[];
  readonly connection: PostgresConnection;
}

const createdRoles = (statements: readonly GlobalStatement[]) =>
  statements.flatMap((each) => (each.kind === "create-role" ? [each.role] : []));
const createdTablespaces = (statements: readonly GlobalStatement[]) =>
  statements.flatMap((each) => (each.kind === "create-tablespace" ? [each.tablespace] : []));

/** Looks at what the globals need, with the connection that applies them; changes nothing. */
async function inspectGlobals(
  { command, signal }: GlobalsRequest,
  { statements, skipped }: Chosen,
  connection: PostgresConnection,
): Promise<GlobalsPlan> {
  const { endpoint } = connection;
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  const present = await readPresent(connection);
  const wanted = newOnes(statements, present);
  const spaces = createdTablespaces(wanted);
  const items = [
    {
      name: "connection",
      message: `PostgreSQL ${majorOf(facts.serverVersionNum)} answers at ${formatAddress(endpoint)}`,
    },
    await look("primary", signal, () => {
      if (facts.inRecovery) fail("CLUSTER_READ_ONLY", `the server at ${formatAddress(endpoint)} is a standby`);
      return { message: "the server is a primary" };
    }),
    await look("tablespaces", signal, async () => {
      if (spaces.length === 0)
        return { message: command.noTablespaces ? "none was wanted" : "there is none that has to be made" };
      if (!facts.superuser) return { message: quoteNames(spaces), warning: "left out: only a superuser may make them" };
      if (facts.isLocal) await requireFolders(wanted);
      return facts.isLocal
        ? { message: `the folders of ${quoteNames(spaces)} are there` }
        : {
            message: `the folders of ${quoteNames(spaces)}`,
            warning: "they are on another host and were not looked at",
          };
    }),
  ];
  // Password hashes do not belong into the server's log; only a superuser may keep them out.
  if (facts.superuser)
    await connection.query(
      "set log_statement = none; set log_min_duration_statement = -1; set log_min_error_statement = panic",
    );
  return {
    items,
    wanted,
    mayLack: !facts.superuser,
    seen: {
      differences: listDifferences(statements, present),
      presentRoles: createdRoles(statements).filter((role) => present.roles.has(role)),
      presentTablespaces: createdTablespaces(statements).filter((name) => present.tablespaces.has(name)),
    },
    skipped,
    connection,
  };
}

/** Applies what is not there, the tablespaces last; a rehearsal leaves nothing of it. */
async function applyGlobals(
  { wanted, mayLack, seen, skipped, connection }: GlobalsPlan,
  isRehearsal: boolean,
): Promise<RestoreGlobalsResult> {
  const work = { statements: wanted, mayLack, skipped, isRehearsal };
  const roles = await applyRoles(connection, work);
  const tablespaces = await applyTablespaces(connection, work);
  return create(RestoreGlobalsResultSchema, {
    createdRoles: roles.created,
    createdTablespaces: tablespaces.created,
    statements: roles.count + tablespaces.count,
    skipped,
    ...seen,
  });
}

/** Reads the globals, connects, and looks; `work` goes on from there. */
async function withInspected<T>(request: GlobalsRequest, work: (plan: GlobalsPlan) => Promise<T>): Promise<T> {
  const { command, signal } = request;
  const chosen = choose(await readGlobals(request), command);
  const endpoint = await resolveEndpoint(command.connection?.endpoint, request.password, request.files);
  await using connection = await openConnection(endpoint, { signal });
  return await work(await inspectGlobals(request, chosen, connection));
}

/**
 * Applies the roles and tablespaces of a dump to a cluster, statement by statement; what is there already is never
 * changed, and what differs is told. Roles are made in one transaction, tablespaces after it; a repetition makes what is
 * missing. What a login role that is no superuser has no right to is left out and told by name. With `dryRun` the
 * transaction is rolled back and no tablespace is made. Fails with SELECTION_REFUSED, GLOBALS_UNREADABLE,
 * TABLESPACE_FOLDER_MISSING, PRIVILEGE_MISSING when it may make none of the roles, CLUSTER_READ_ONLY, or as
 * matchIdentities, the storage and connections do.
 */
export async function restoreGlobals(request: GlobalsRequest): Promise<RestoreGlobalsResult> {
  return await withInspected(request, async (plan) => {
    const refused = plan.items.find(({ failure }) => failure)?.failure;
    if (refused) throw refused;
    return await applyGlobals(plan, request.command.dryRun);
  });
}

/**
 * Says what that restore would do and whether it would be refused: it is rehearsed in a transaction that is rolled back.
 * Fails where not even the looking works.
 */
export async function planGlobals(
  request: GlobalsRequest,
): Promise<{ readonly items: readonly Item[]; readonly result: RestoreGlobalsResult | undefined }> {
  return await withInspected(request, async (plan) => {
    if (plan.items.some(({ name, failure }) => failure && name === "primary"))
      return { items: plan.items, result: undefined };
    let result: RestoreGlobalsResult | undefined;
    const rehearsed = await look("roles", request.signal, async () => {
      result = await applyGlobals(plan, true);
      const { createdRoles: made, presentRoles: there } = result;
      return {
        message: `${made.length} would be made, as a trial showed; ${there.length} are there and stay as they are`,
      };
    });
    return { items: [...plan.items, rehearsed], result };
  });
}
