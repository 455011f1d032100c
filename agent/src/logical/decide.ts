import { create } from "@bufbuild/protobuf";
import {
  type DecideRestoreCommand,
  type DecideRestoreResult,
  DecideRestoreResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/decide_restore";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { fail } from "@coppice/proto/kit/failure";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import { type ClientFiles, type ResolvedEndpoint, resolveEndpoint } from "../postgres/endpoint.ts";
import { seeTarget } from "./look/target.ts";
import { chooseAdminDatabase } from "./plan.ts";
import { dropStagedDatabase, endCreators, findDatabase, nameSession } from "./staged-database.ts";
import { refuseOther, swapDatabase } from "./swap.ts";

const swapMs = 60_000;

/** A decision upon a database that waits beside the one whose place it may take. */
export interface Decision {
  readonly command: DecideRestoreCommand;
  /** The opened password, where the connection has one. */
  readonly password: string | undefined;
  readonly files: ClientFiles;
  readonly signal: AbortSignal;
}

interface Ground {
  readonly endpoint: ResolvedEndpoint;
  readonly admin: string;
  readonly held: NonNullable<DecideRestoreCommand["held"]>;
}

async function openGround({ command, password, files, signal }: Decision): Promise<Ground> {
  const held = command.held ?? fail("INVALID_FIELD", "the command names no database");
  const endpoint = await resolveEndpoint(command.connection?.endpoint, password, files);
  return { endpoint, held, admin: await chooseAdminDatabase(endpoint, command.targetDatabase, signal) };
}

/** What the very database is called now; undefined where it is gone. A session that still swaps or drops it is ended first. */
async function findName(connection: PostgresConnection, { held }: Ground): Promise<string | undefined> {
  await endCreators(connection, held.name);
  return await nameOf(connection, held.oid);
}

async function nameOf(connection: PostgresConnection, oid: number): Promise<string | undefined> {
  const sql = "select datname::text as name from pg_database where oid = $1";
  return (await connection.query<{ name: string }>(sql, [oid]))[0]?.name;
}

/** Whether that is what the decision asks for. */
function isDone({ decision, targetDatabase }: DecideRestoreCommand, name: string | undefined): boolean {
  return decision === RestoreDecision.SWAP ? name === targetDatabase : name === undefined;
}

async function describe(
  connection: PostgresConnection,
  { decision }: DecideRestoreCommand,
  { held }: Ground,
): Promise<DecideRestoreResult> {
  // Empty too where somebody has dropped it since.
  const keptAs = decision === RestoreDecision.SWAP ? await nameOf(connection, held.replacesOid) : undefined;
  return create(DecideRestoreResultSchema, { decision, keptAs: keptAs ?? "" });
}

/** Whether it was carried out before. Fails where the other decision was, or somebody has renamed or dropped it. */
async function isDoneAlready(
  connection: PostgresConnection,
  ground: Ground,
  command: DecideRestoreCommand,
): Promise<boolean> {
  const { name: beside } = ground.held;
  const name = await findName(connection, ground);
  if (name === beside || isDone(command, name)) return name !== beside;
  if (name === undefined) fail("NOTHING_TO_DECIDE", `the database ${beside} is gone; nothing was replaced`);
  return fail(
    "NOTHING_TO_DECIDE",
    `the database that was left beside as ${beside} is called ${JSON.stringify(name)} now`,
  );
}

async function swap({ endpoint, admin, held }: Ground, { command, signal }: Decision): Promise<void> {
  const { targetDatabase: target, keptDatabase } = command;
  // Not the operation's own signal: a COMMIT that was sent must be waited for.
  const options = { database: admin, signal: AbortSignal.timeout(swapMs) };
  await using renaming = await openConnection(endpoint, options);
  await using ending = await openConnection(endpoint, options);
  if ((await findDatabase(renaming, target)) !== held.replacesOid) refuseOther(target);
  await seeTarget(renaming, { targetDatabase: target, keptDatabase, mode: RestoreMode.HOLD });
  await nameSession(renaming, held.name);
  const { oid, replacesOid } = held;
  const names = { staged: held.name, oid, target, keptAs: keptDatabase, replacesOid, properties: held };
  await swapDatabase(renaming, ending, names, signal);
}

/**
 * Puts a database that a restore has left beside into place in one transaction, or drops it. Nothing else is put into
 * place, and nothing but the database that it was compared with is swapped out. Where it was done before, that is the
 * answer. Fails with NOTHING_TO_DECIDE, DATABASE_IN_USE, DATABASE_EXISTS, as connections do, with the signal's reason, or
 * with OUTCOME_UNKNOWN when the server was lost at the last step: then settleDecision finds out.
 */
export async function decideRestore(
  decision: Decision & { readonly log: (line: string) => void },
): Promise<DecideRestoreResult> {
  const { command, signal, log } = decision;
  const ground = await openGround(decision);
  const { endpoint, admin, held } = ground;
  await using connection = await openConnection(endpoint, { database: admin, signal });
  if (await isDoneAlready(connection, ground, command)) return await describe(connection, command, ground);
  if (command.decision === RestoreDecision.DROP) {
    await nameSession(connection, held.name);
    await dropStagedDatabase(connection, held.name, held.oid);
    log(`dropped the database ${held.name}; ${JSON.stringify(command.targetDatabase)} is as it was`);
    return await describe(connection, command, ground);
  }
  try {
    await swap(ground, decision);
  } catch (error) {
    if (signal.aborted && error === signal.reason) throw error;
    if (!(await settleDecision(decision).catch(unknown))) throw error;
  }
  log(`put into place as ${JSON.stringify(command.targetDatabase)}; what was there is kept as ${command.keptDatabase}`);
  return await describe(connection, command, ground);
}

function unknown(cause: unknown): never {
  return fail("OUTCOME_UNKNOWN", "the server was lost while the restored database was put into place", { cause });
}

/**
 * How a decision ended whose answer was lost: undefined where it was not carried out, and then nothing has changed. Fails
 * with DATABASE_IN_USE where a session that still works on it cannot be ended, or as connections do.
 */
export async function settleDecision(decision: Decision): Promise<DecideRestoreResult | undefined> {
  const { command } = decision;
  const signal = AbortSignal.timeout(swapMs);
  const ground = await openGround({ ...decision, signal });
  await using connection = await openConnection(ground.endpoint, { database: ground.admin, signal });
  if (!isDone(command, await findName(connection, ground))) return undefined;
  return await describe(connection, command, ground);
}
