import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { GlobalStatement } from "./statements.ts";

const duplicateObject = "42710";
const insufficientPrivilege = "42501";

function nameOf(statement: GlobalStatement): string {
  if ("tablespace" in statement) return `the tablespace ${JSON.stringify(statement.tablespace)}`;
  if (statement.kind === "parameter") return `the privileges of ${JSON.stringify(statement.grantee)} on a setting`;
  if (statement.kind === "membership")
    return `the membership of ${JSON.stringify(statement.member)} in ${JSON.stringify(statement.role)}`;
  return `the role ${JSON.stringify(statement.role)}`;
}

/** What a statement that was left out would have done. */
function describeStatement(statement: GlobalStatement): string {
  if (statement.kind === "alter-tablespace") return `options or privileges of ${nameOf(statement)}`;
  if (statement.kind !== "alter-role") return nameOf(statement);
  const { change } = statement;
  const what = { attributes: "attributes", setting: "the setting", other: "the comment or label" }[change.what];
  return `${what}${change.what === "setting" ? ` ${change.name}` : ""} of ${nameOf(statement)}`;
}

/** Names what could not be made; the message of the server stays, the statement's text is nowhere. */
function named(error: Failure, statement: GlobalStatement): Failure {
  const { reason, message, metadata } = error;
  const hint =
    statement.kind === "create-tablespace"
      ? "make its folder on the server, empty, the server user's own, and used by no other cluster"
      : error.hint;
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

/** What is applied. */
export interface GlobalsToApply {
  readonly statements: readonly GlobalStatement[];
  /** What the login role has no right to do is left out, instead of failing all. */
  readonly mayLack: boolean;
  /** Gets a line for each thing that was left out. */
  readonly skipped: string[];
  /** Roles are made in a transaction that is rolled back, and tablespaces are only counted. */
  readonly isRehearsal: boolean;
}

/** What was applied. */
export interface Applied {
  /** Names of roles or tablespaces. */
  readonly created: string[];
  /** Statements. */
  readonly count: number;
}

/** Runs a statement of a role, in a smaller form where its first one is refused; tells what did not come along. */
async function applyStatement(
  connection: PostgresConnection,
  statement: GlobalStatement,
  skipped: string[],
): Promise<Failure | undefined> {
  const failure = await attempt(connection, statement.text);
  if (!failure || failure.metadata.sqlstate === duplicateObject) return failure;
  if (statement.kind === "membership" && statement.grantor !== undefined) {
    const plain = await attempt(connection, statement.plainText);
    if (!plain)
      skipped.push(`the grantor of ${nameOf(statement)}: ${JSON.stringify(statement.grantor)} may not grant it here`);
    return plain;
  }
  const smaller = statement.kind === "alter-role" && statement.change.what === "attributes" && statement.change.smaller;
  for (const { text, leftOut } of smaller || []) {
    if (await attempt(connection, text)) continue;
    if (leftOut.length > 0)
      skipped.push(`${leftOut.join(", ").toUpperCase()} of ${nameOf(statement)}: ${failure.message}`);
    return undefined;
  }
  return failure;
}

/**
 * Roles and all of theirs, in one transaction, which for a rehearsal is rolled back at its end. Gives the roles that were
 * created and the number of statements. What a login role that is no superuser has no right to do is left out by name,
 * unless it may make none of the roles; anything else that fails fails all.
 */
export async function applyRoles(
  connection: PostgresConnection,
  { statements, mayLack, skipped, isRehearsal }: GlobalsToApply,
): Promise<Applied> {
  const created: string[] = [];
  const taken = new Set<string>();
  let firstRefusal: Failure | undefined;
  let count = 0;
  await connection.query("BEGIN");
  try {
    for (const statement of statements) {
      if ("tablespace" in statement) continue;
      if (statement.kind === "alter-role" && taken.has(statement.role)) continue;
      const failure = await applyStatement(connection, statement, skipped);
      if (statement.kind === "create-role" && failure?.metadata.sqlstate === duplicateObject) {
        // Made by somebody since it was looked for: it is theirs.
        taken.add(statement.role);
        skipped.push(`${nameOf(statement)}: it was created by somebody else meanwhile`);
        continue;
      }
      if (failure && mayLack && failure.metadata.sqlstate === insufficientPrivilege) {
        if (statement.kind === "create-role") {
          taken.add(statement.role);
          firstRefusal ??= named(failure, statement);
        }
        skipped.push(`${describeStatement(statement)}: ${failure.message}`);
        continue;
      }
      if (failure) throw named(failure, statement);
      count++;
      if (statement.kind === "create-role") created.push(statement.role);
    }
    if (firstRefusal && created.length === 0) throw firstRefusal;
    await connection.query(isRehearsal ? "ROLLBACK" : "COMMIT");
    return { created, count };
  } catch (error) {
    await connection.query("ROLLBACK").catch(() => {});
    throw error;
  }
}

/** Tablespaces, each by itself: PostgreSQL makes them in no transaction. */
export async function applyTablespaces(
  connection: PostgresConnection,
  { statements, mayLack, skipped, isRehearsal }: GlobalsToApply,
): Promise<Applied> {
  const wanted = statements.filter((each) => "tablespace" in each);
  if (isRehearsal) {
    // Only a superuser may, which is known beforehand.
    if (mayLack) skipped.push(...wanted.map((each) => `${describeStatement(each)}: only a superuser may`));
    const makeable = mayLack ? [] : wanted;
    const created = makeable.flatMap((each) => (each.kind === "create-tablespace" ? [each.tablespace] : []));
    return { created, count: makeable.length };
  }
  const created: string[] = [];
  const taken = new Set<string>();
  let count = 0;
  for (const statement of wanted) {
    if (taken.has(statement.tablespace)) continue;
    try {
      await connection.query(statement.text);
    } catch (error) {
      if (statement.kind === "create-tablespace" && isFailure(error) && error.metadata.sqlstate === duplicateObject) {
        taken.add(statement.tablespace);
        skipped.push(`${nameOf(statement)}: it was created by somebody else meanwhile`);
        continue;
      }
      if (mayLack && isFailure(error) && error.metadata.sqlstate === insufficientPrivilege) {
        if (statement.kind === "create-tablespace") taken.add(statement.tablespace);
        skipped.push(`${describeStatement(statement)}: ${error.message}`);
        continue;
      }
      throw isFailure(error) ? named(error, statement) : error;
    }
    count++;
    if (statement.kind === "create-tablespace") created.push(statement.tablespace);
  }
  return { created, count };
}
