import type { KeyObject } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { Command } from "@coppice/proto/gen/coppice/agent/v1/command";
import { CancelSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { FenceSchema } from "@coppice/proto/gen/coppice/common/v1/fence";
import { Failure, fail, failureToDetail, toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Database } from "../catalog/catalog.ts";
import { insertAttempt } from "../catalog/operations/attempt.ts";
import { changeOperation, lockOperation, nextFenceNumber } from "../catalog/operations/change.ts";
import { holdSession, lockQueued, lockUnsettled, nextDueMs } from "../catalog/operations/claim.ts";
import { listSent } from "../catalog/operations/read.ts";
import type { FenceValue, OperationRow } from "../catalog/operations/row.ts";
import type { AgentSession } from "../fleet/agent-session.ts";
import { applyChanges } from "./apply.ts";
import { buildCommand, commandToJson } from "./command.ts";
import { failOperation } from "./ending/ending.ts";
import { lookUpFacts } from "./facts.ts";
import type { CatalogChange } from "./kinds/catalog-change.ts";
import { hostLimit } from "./kinds/host-limit.ts";
import type { CommandCase } from "./kinds/kind.ts";
import type { OperationParts } from "./parts.ts";
import { lostAttempt, settleCommand } from "./settlement.ts";
import { kindName, parseSpec } from "./spec.ts";
import { nextState } from "./states.ts";

/**
 * Sends the work of one host to its agent as long as the session lives: cancels first, then looks at what has an
 * unknown outcome, then what is queued. It is one loop, so that a cancel never overtakes its command.
 */
export async function runDispatcher(parts: OperationParts, session: AgentSession): Promise<void> {
  const { signal, hostId } = session;
  using work = parts.agentNotices.subscribe(hostId);
  const cancelled = new Set<string>();
  while (!signal.aborted) {
    try {
      await sendCancels(parts, session, cancelled);
      while (await sendNext(parts, session, lockUnsettled, "settle"));
      while (await sendNext(parts, session, lockWithinLimit, "claim"));
      const dueMs = await nextDueMs(parts.catalog.db, hostId);
      await work.next(Math.min(parts.pollMs, dueMs ?? parts.pollMs), signal);
    } catch (error) {
      if (signal.aborted) return;
      // The catalog may be away for a moment. Nothing is lost: what was claimed and not sent is found to be lost.
      parts.log.error({ err: error, host: hostId }, "work could not be dispatched");
      await sleep(parts.pollMs, signal).catch(() => undefined);
    }
  }
}

function lockWithinLimit(tx: Database, hostId: string): Promise<OperationRow | undefined> {
  return lockQueued(tx, hostId, { kinds: hostLimit.heavy.map(kindName), atOnce: hostLimit.atOnce });
}

async function sendCancels({ catalog }: OperationParts, session: AgentSession, sent: Set<string>): Promise<void> {
  for (const row of await listSent(catalog.db, session.hostId, ["CANCELLING"])) {
    const { id: operationId, fenceIncarnation, fenceNumber } = row;
    if (fenceIncarnation === null || fenceNumber === null || sent.has(`${operationId} ${fenceNumber}`)) continue;
    const fence = create(FenceSchema, { incarnation: fenceIncarnation, number: fenceNumber });
    await session.send({ case: "cancel", value: create(CancelSchema, { operationId, fence }) });
    sent.add(`${operationId} ${fenceNumber}`);
  }
}

/** Claims one operation and sends its command once the claim is committed; false when there is none. */
async function sendNext(
  parts: OperationParts,
  session: AgentSession,
  lock: typeof lockUnsettled,
  event: "claim" | "settle",
): Promise<boolean> {
  session.signal.throwIfAborted();
  const { catalog, log } = parts;
  const { hostId, epoch: sessionEpoch } = session;
  const claimed = await catalog.transaction(async (tx) => {
    if (!(await holdSession(tx, { hostId, sessionEpoch }))) return undefined;
    const row = await lock(tx, hostId);
    return row && { row, command: await claim(parts, tx, session, row, event) };
  });
  if (claimed === undefined) return false;
  const { row, command } = claimed;
  if (command instanceof Failure) {
    await catalog.transaction((tx) => refuse(tx, row, command, event));
    log.warn({ operation: row.id, host: hostId, event }, "operation could not be sent");
    return true;
  }
  log.info({ operation: row.id, command: command.commandId, attempt: command.attempt, host: hostId, event }, "sent");
  await session.send({ case: "command", value: command });
  return true;
}

/** Gives the command to send, or why there cannot be one: then nothing has changed. */
async function claim(
  { catalog, masterKey, log }: OperationParts,
  tx: Database,
  session: AgentSession,
  row: OperationRow,
  event: "claim" | "settle",
): Promise<Command | Failure> {
  const state = nextState(row.state, event) ?? fail("INTERNAL", `an operation that is ${row.state} was claimed`);
  const fence = { incarnation: catalog.incarnation, number: await nextFenceNumber(tx) };
  const attempt = row.attempt + 1;
  const built = await build({ tx, masterKey, session, row, event, attempt, fence }).catch((error: unknown) => {
    log.error({ err: error, operation: row.id }, "no command can be made");
    return toFailure(error);
  });
  if (built instanceof Failure) return built;
  const { begin, command } = built;
  await applyChanges(tx, row.id, begin);
  await insertAttempt(tx, { operationId: row.id, number: attempt, settling: event === "settle" });
  const changed = await changeOperation(
    tx,
    { id: row.id, states: [row.state] },
    {
      state,
      attempt,
      fenceIncarnation: fence.incarnation,
      fenceNumber: fence.number,
      commandId: command.commandId,
      retryAt: null,
      progress: null,
      // What is settled stays the command that was lost.
      ...(event === "claim"
        ? { command: commandToJson(command), stateReason: "" }
        : { stateReason: `the agent looks how attempt ${lostAttempt(row)} ended` }),
    },
  );
  if (changed === undefined) throw new Error(`operation ${row.id} changed although it was locked`);
  return command;
}

interface Claim {
  readonly tx: Database;
  readonly masterKey: KeyObject;
  readonly session: AgentSession;
  readonly row: OperationRow;
  readonly event: "claim" | "settle";
  readonly attempt: number;
  readonly fence: FenceValue;
}

/** The command to send, and what is true as soon as it is sent. */
async function build(claim: Claim): Promise<{ begin: readonly CatalogChange[]; command: Command }> {
  const { tx, masterKey, session, row, event, attempt, fence } = claim;
  const { spec, kind } = parseSpec(row.spec);
  const needed: CommandCase = event === "settle" ? "settle" : kind.command;
  if (!session.capabilities.has(needed)) {
    fail("CAPABILITY_MISSING", `the agent of ${session.hostName} (${session.agentVersion}) does not know ${needed}`);
  }
  const references = kind.references(spec);
  // A look has to read what may be there and to clear away what is left, whatever the work itself needed.
  const needs = event === "settle" ? { ...references, purposes: ["write", "read", "delete"] as const } : references;
  const facts = await lookUpFacts(tx, session.hostId, needs);
  const commandSpec = event === "settle" ? settleCommand(row, facts) : kind.plan(spec, facts);
  const command = await buildCommand(tx, masterKey, { operationId: row.id, attempt, fence, spec: commandSpec, facts });
  return { begin: event === "claim" ? kind.begin(spec) : [], command };
}

/**
 * What was never sent has failed; what was sent stays unknown until somebody can look. By itself, for who ends an
 * operation locks its group first, and a claim locks the operation alone.
 */
async function refuse(tx: Database, seen: OperationRow, failure: Failure, event: "claim" | "settle"): Promise<void> {
  const row = await lockOperation(tx, seen.id);
  if (row === undefined || row.revision !== seen.revision) return;
  if (event === "claim") {
    await failOperation(tx, row, "fail", failureToDetail(failure));
    return;
  }
  await changeOperation(
    tx,
    { id: row.id, states: [row.state] },
    {
      retryAt: new Date(Date.now() + 60_000),
      stateReason: `how it ended cannot be found out yet: ${failure.message}`,
    },
  );
}
